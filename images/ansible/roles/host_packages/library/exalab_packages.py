"""Ansible module: our packages and what they need, installed; and all that came with them taken off again."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.exalab_journal_file import alone, read, write

DOCUMENTATION = """
module: exalab_packages
short_description: Packages of the datapath, and what they and the suites need
description:
  - C(present) installs what is missing; nothing that is there is upgraded or removed for it.
  - C(absent) purges what C(present) has brought, but what a package installed since depends on.
  - Modules that DKMS cannot build fail it, with the end of the compiler's words; nothing of it stays then.
options:
  state: {required: true, choices: [present, absent]}
  journal: {required: true, description: The journal's file.}
  ours: {default: [], description: "Packages of ours: name, version, sha256, file on the machine, depends."}
  names: {default: [], description: Packages of the machine's own archive.}
  kernel: {default: "", description: The kernel that the modules are for.}
  modules: {default: [], description: What DKMS is to build, the one that the others need first.}
author: exalab
"""

#: Settings of apt that make what it does a matter of the packages alone.
APT = (
    "-o",
    "APT::Install-Recommends=false",
    "-o",
    "Dpkg::Options::=--force-confold",
    "-o",
    "Dpkg::Use-Pty=0",
)
#: What is there only because another package once liked it to be is not needed.
AUTOREMOVE = (
    "-o",
    "APT::AutoRemove::RecommendsImportant=false",
    "-o",
    "APT::AutoRemove::SuggestsImportant=false",
)
#: DKMS and the kernel's tools leave these behind when the last module goes.
TRACES = ("/var/lib/dkms", "/etc/dkms")
LOG_LINES = 40

Json = dict[str, Any]


class Failed(Exception):
    """What went wrong, for people, and what to do about it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def run(argv: Sequence[str], check: bool = True) -> str:
    """A command's output, both streams."""
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8", "NEEDRESTART_SUSPEND": "1"}
    done = subprocess.run(
        list(argv),
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if check and done.returncode:
        raise Failed(f"{' '.join(argv)} ended with {done.returncode}:\n{tail(done.stdout)}")
    return done.stdout


def tail(text: str) -> str:
    return "\n".join(text.splitlines()[-LOG_LINES:])


def installed() -> dict[str, str]:
    """Every installed package's version, by name and architecture as dpkg tells them apart."""
    told = run(["dpkg-query", "--show", "--showformat=${binary:Package} ${Version} ${db:Status-Status}\n"])
    rows = [line.split() for line in told.splitlines()]
    return {row[0].partition(":")[0]: row[1] for row in rows if len(row) == 3 and row[2] == "installed"}


def simulate(*arguments: str) -> tuple[dict[str, str], list[str], list[str]]:
    """What apt would do: packages to install with their versions, to upgrade, to remove."""
    told = run(["apt-get", "--simulate", *APT, *arguments])
    new, upgraded, removed = {}, [], []
    for line in told.splitlines():
        if found := re.match(r"Inst (\S+) (\[\S+\] )?\((\S+)", line):
            name = found[1].partition(":")[0]
            new[name] = found[3]
            if found[2]:
                upgraded.append(name)
        elif found := re.match(r"(?:Remv|Purg) (\S+)", line):
            removed.append(found[1].partition(":")[0])
    return new, upgraded, removed


class Packages:
    """The machine's packages and the journal."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module, self.given = module, module.params
        self.told = read(self.given["journal"])
        self.noted: Json = self.told.get("packages", {})
        self.ours: list[Json] = self.given["ours"]
        self.lines: list[str] = []

    def note(self) -> None:
        self.told["packages"] = self.noted
        write(self.given["journal"], self.told)

    # present

    def present(self) -> bool:
        now = installed()
        wanted = [one for one in self.ours if not self._is_there(one, now)]
        names = [name for name in self.given["names"] if name not in now]
        foreign = [one["name"] for one in wanted if one["name"] in now and one["name"] not in self._brought()]
        if foreign:
            raise Failed(
                f"there is a package {', '.join(foreign)} already, which is not ours",
                f"it may be the card vendor's: apt purge {' '.join(foreign)}",
            )
        if not wanted and not names:
            return False
        new = self._simulated(wanted, names)
        self.lines += [f"install {name} {version}" for name, version in sorted(new.items())]
        self.lines += [f"install {one['name']} {one['version']}" for one in wanted if one["name"] not in new]
        if self.module.check_mode:
            return True
        self._install(wanted, names, new, now)
        return True

    def _brought(self) -> set[str]:
        return {*self.noted.get("added", ()), *self.noted.get("ours", {})}

    def _is_there(self, one: Json, now: dict[str, str]) -> bool:
        known = self.noted.get("ours", {}).get(one["name"])
        return now.get(one["name"]) == one["version"] and bool(known == one["sha256"])

    def _simulated(self, wanted: list[Json], names: list[str]) -> dict[str, str]:
        """What apt installs for it. Not ours: when that is only asked about, they are not on the machine."""
        own = {one["name"] for one in self.ours}
        depends = {name for one in wanted for name in one["depends"]} - own
        arguments = ("install", "--no-remove", *names, *sorted(depends))
        try:
            new, upgraded, _ = simulate(*arguments)
        except Failed as problem:
            if self.module.check_mode:
                problem.hint = "the machine's package lists may be old or missing: apt update, there"
                raise
            run(["apt-get", "--quiet", "update"])
            try:
                new, upgraded, _ = simulate(*arguments)
            except Failed as again:
                again.hint = "the machine's own apt has to have them; look at its sources"
                raise
        if upgraded:
            raise Failed(
                f"apt would upgrade {', '.join(sorted(upgraded))} for it, which could not be undone",
                "upgrade the machine first (apt update && apt upgrade), then apply again",
            )
        return new

    def _install(
        self, wanted: list[Json], names: list[str], new: dict[str, str], now: dict[str, str]
    ) -> None:
        kernel = Path("/lib/modules", self.given["kernel"])
        self.noted.setdefault("traces", [path for path in TRACES if not Path(path).exists()])
        self.noted.setdefault("listings", sorted(path.name for path in kernel.glob("*")))
        ours = {one["name"] for one in wanted}
        added = set(self.noted.get("added", ())) | {
            name for name in new if name not in now and name not in ours
        }
        self.noted["added"] = sorted(added)
        self.noted["ours"] = {**self.noted.get("ours", {}), **dict.fromkeys(ours, "")}
        self.note()
        again = ["--reinstall"] if any(one["name"] in now for one in wanted) else []
        files = [one["file"] for one in wanted]
        try:
            if again:
                self._unload()
            run(
                [
                    "apt-get",
                    "--yes",
                    *APT,
                    "install",
                    "--no-remove",
                    "--allow-downgrades",
                    *again,
                    *names,
                    *files,
                ]
            )
            self._built(ours)
        except Failed as problem:
            message = f"{problem}{_compiler()}"
            self.absent()
            raise Failed(
                message, problem.hint or "the machine is as it was; the modules are in datapath/"
            ) from None
        self.noted["ours"].update({one["name"]: one["sha256"] for one in wanted})
        self.note()

    def _built(self, packages: set[str]) -> None:
        for name in (one for one in self.given["modules"] if f"{one}-dkms" in packages):
            argv = ["modinfo", "-k", self.given["kernel"], "-F", "filename", name]
            if "/updates/dkms/" not in run(argv, check=False):
                raise Failed(f"DKMS has built no {name} for the kernel {self.given['kernel']}")

    # absent

    def absent(self) -> bool:
        """Take off what was brought. Also after half of an installation."""
        now = installed()
        half = set(run(["dpkg-query", "--show", "--showformat=${binary:Package}\n"], check=False).split())
        there = {name.partition(":")[0] for name in half} | set(now)
        ours = sorted(set(self.noted.get("ours", {})) & there)
        added = sorted(set(self.noted.get("added", ())) & there)
        if not ours and not added and not self.noted:
            return False
        chosen = self._ours_to_purge(ours, added)
        self.lines += [f"purge {name}" for name in chosen]
        if self.module.check_mode:
            return bool(chosen)
        if ours:
            self._unload()
        if chosen:
            run(["apt-get", "--yes", *APT, "purge", *chosen])
        self._sweep()
        self.told.pop("packages", None)
        if Path(self.given["journal"]).exists():
            write(self.given["journal"], self.told)
        return bool(chosen)

    def _ours_to_purge(self, ours: list[str], added: list[str]) -> list[str]:
        """Ours, and of what came with them all that nobody else depends on."""
        mine = {*ours, *added}
        for one in ours:
            if strangers := set(simulate("purge", one)[2]) - mine:
                raise Failed(
                    f"{', '.join(sorted(strangers))}, installed since, needs {one}",
                    f"apt purge {' '.join(sorted(strangers))}, then remove again",
                )
        given = [name for name in self.given["names"] if name in added]
        free = [name for name in given if set(simulate("purge", name)[2]) <= mine]
        if not ours and not free:
            return []
        removed = simulate(*AUTOREMOVE, "purge", "--auto-remove", *ours, *free)[2]
        return sorted(mine & set(removed))

    def _unload(self) -> None:
        for name in reversed(self.given["modules"]):
            if Path("/sys/module", name).exists():
                try:
                    run(["modprobe", "--remove", name])
                except Failed as problem:
                    raise Failed(
                        f"the module {name} is in use and cannot be unloaded: {problem}",
                        "end what uses it (exasock-stat, lsof /dev/exasock), then try again",
                    ) from None

    def _sweep(self) -> None:
        """What DKMS and depmod made and no package owns."""
        for path in self.noted.get("traces", ()):
            if path in TRACES and not shutil.which("dkms"):
                shutil.rmtree(path, ignore_errors=True)
        kernel = Path("/lib/modules", self.given["kernel"])
        for folder in (kernel / "updates/dkms", kernel / "updates"):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        for path in kernel.glob("modules.*"):
            if path.name not in self.noted.get("listings", [path.name]):
                path.unlink()


def _compiler() -> str:
    """The end of every log of DKMS's, where it built something that failed."""
    logs = sorted(Path("/var/lib/dkms").glob("exa*/*/build/make.log"))
    return "".join(f"\n{path}:\n{tail(path.read_text(errors='replace'))}" for path in logs)


def entries(names: Iterable[str]) -> str:
    return "".join(f"{name}\n" for name in names)


def main() -> None:
    """One state."""
    module = AnsibleModule(
        argument_spec={
            "state": {"required": True, "choices": ["present", "absent"]},
            "journal": {"type": "path", "required": True},
            "ours": {"type": "list", "elements": "dict", "default": []},
            "names": {"type": "list", "elements": "str", "default": []},
            "kernel": {"type": "str", "default": ""},
            "modules": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    try:
        with alone():
            packages = Packages(module)
            changed = packages.present() if module.params["state"] == "present" else packages.absent()
    except (Failed, ValueError, TimeoutError) as problem:
        module.fail_json(msg=str(problem), hint=getattr(problem, "hint", ""))
    module.exit_json(changed=changed, diff={"before": "", "after": entries(packages.lines)})


if __name__ == "__main__":
    main()
