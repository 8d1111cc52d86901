"""Where a record comes from: the sources, the machine, the lab with its versions and digests."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import paths
from lab.errors import LabError
from lab.paths import ROOT
from suites.report.record import Card, Origin, Source

if TYPE_CHECKING:
    from lab.api import Lab


def here() -> Origin:
    """Everything that is known without a lab. Never fails: what cannot be had is missing, or says why."""
    return Origin(
        source=source(),
        machine=machine(),
        versions={"python": platform.python_version(), "host kernel": platform.release()},
        images=images(),
        locks=locks(),
    )


def source() -> Source:
    """The commit that is checked out, and what differs from it."""
    try:
        head = _git("log", "-1", "--format=%H%n%s").splitlines()
        branch = _git("branch", "--show-current").strip()
        changes = _git("diff", "HEAD")
        changes += _git("ls-files", "--others", "--exclude-standard")
    except (OSError, subprocess.SubprocessError) as problem:
        return Source(commit="unknown", subject=f"git does not tell: {problem}")
    tree = head[0][:12]
    if changes:
        tree += "+" + hashlib.sha256(changes.encode(errors="replace")).hexdigest()[:8]
    subject = head[1] if len(head) > 1 else ""
    return Source(head[0], branch, subject, bool(changes), tree)


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(ROOT), *arguments], check=True, capture_output=True, text=True, timeout=20
    )
    return done.stdout


def machine() -> dict[str, str]:
    """Processor, cores, memory, system, load before the run."""
    told = {"cores": str(os.cpu_count() or 0), "load": f"{os.getloadavg()[0]:.2f}", "name": platform.node()}
    told["memory"] = f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / (1 << 30):.1f} GiB"
    for line in _lines(Path("/proc/cpuinfo")):
        if line.startswith("model name"):
            told["processor"] = line.partition(":")[2].strip()
            break
    for line in _lines(Path("/etc/os-release")):
        if line.startswith("PRETTY_NAME="):
            told["system"] = line.partition("=")[2].strip('"')
    return told


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def images() -> dict[str, str]:
    """The digest of each image there is."""
    found = {}
    for path in sorted(paths.images().glob("*/manifest.json")):
        try:
            found[path.parent.name] = str(json.loads(path.read_text()).get("digest", "unknown"))
        except (OSError, ValueError, AttributeError) as problem:
            found[path.parent.name] = f"its manifest cannot be read: {problem}"
    return found


def locks() -> dict[str, str]:
    """The digest of each lock under version control: of the images, and of the Python environment."""
    files = [*sorted((ROOT / "images/locks").glob("*.lock")), ROOT / "requirements.lock"]
    return {
        str(path.relative_to(ROOT)): "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.is_file()
    }


def with_lab(origin: Origin, lab: Lab, card: str) -> Origin:
    """Add what the lab says of itself: accelerator, QEMU, guest, drivers, cards, drawing. A few questions.
    ``card``: what kind its cards are.
    """
    facts = lab.facts
    origin.lab, origin.profile = lab.name, str(facts.get("profile", ""))
    origin.accelerator, origin.accelerator_reason = lab.accelerator.name, lab.accelerator.reason
    origin.images |= {name: str(digest) for name, digest in facts.get("images", {}).items()}
    origin.versions["guest kernel"] = str(facts.get("kernel", ""))
    try:
        told = lab.qmp("query-version")
        number = ".".join(str(told["qemu"][part]) for part in ("major", "minor", "micro"))
        origin.versions["QEMU"] = f"{number} {told.get('package', '')}".strip()
    except (LabError, KeyError, TypeError) as problem:
        origin.versions["QEMU"] = f"does not say: {problem}"
    for module, name in (("exanic", "driver exanic"), ("exasock", "exasock")):
        origin.versions[name] = module_version(lab, module)
    origin.cards = cards(lab, card)
    origin.parameters = parameters(lab)
    origin.not_shipped = {
        name: value for name, value in shipped().items() if origin.parameters.get(name, value) != value
    }
    if lab.paths.drawing.exists():
        origin.drawing = lab.paths.drawing.read_text(encoding="utf-8")
    return origin


def module_version(lab: Lab, module: str) -> str:
    """Version and source digest of a loaded module of the guest's."""
    found = []
    for file in ("version", "srcversion"):
        try:
            done = lab.agent.exec(["cat", f"/sys/module/{module}/{file}"], timeout=30, check=False)
        except LabError as problem:
            return f"the guest does not say: {problem.message}"
        if done.code == 0 and done.stdout.strip():
            found.append(done.stdout.strip() if file == "version" else f"(srcversion {done.stdout.strip()})")
    return " ".join(found) or "not loaded"


#: Where each module's parameters are declared, with the values that are shipped.
_MODULES = ("exanic", "exasock")
_DECLARED = re.compile(r"^module_param(?:_named)?\((\w+), (?:(\w+), )?(\w+), 0\d+\);", re.MULTILINE)


def parameters(lab: Lab) -> dict[str, str]:
    """The parameters in force in the guest, by module and name ("exasock.hold_us")."""
    command = 'for f in /sys/module/{exanic,exasock}/parameters/*; do echo "$f $(cat "$f")"; done'
    try:
        told = lab.agent.exec(["bash", "-c", command], timeout=30, check=False).stdout
    except LabError as problem:
        return {"all": f"the guest does not say: {problem.message}"}
    found = {}
    for line in told.splitlines():
        path, _, value = line.partition(" ")
        words = path.split("/")
        if len(words) == 6 and words[5] != "*":
            found[f"{words[3]}.{words[5]}"] = value
    return found


def shipped() -> dict[str, str]:
    """The values that the modules' sources give their numeric and boolean parameters, as /sys shows them."""
    found = {}
    for module in _MODULES:
        for file in sorted((ROOT / "datapath" / module).glob("*.c")):
            text = file.read_text(encoding="utf-8")
            for name, variable, kind in _DECLARED.findall(text):
                given = re.search(
                    rf"^(?:static )?[\w ]+\b{variable or name}(?: = (\w+))?;", text, re.MULTILINE
                )
                if given is not None and kind != "charp":
                    found[f"{module}.{name}"] = _as_sysfs(given[1] or "0")
    return found


def _as_sysfs(value: str) -> str:
    words = {"true": "Y", "false": "N"}
    return words[value] if value in words else str(int(value, 0))


def firmware_of(registers: Mapping[str, int]) -> str:
    """What the card's registers say of its firmware: when it was built, and which interface it has."""
    told = []
    if "HW_REV_DATE" in registers:
        told.append(f"of {datetime.fromtimestamp(registers['HW_REV_DATE'], UTC):%Y-%m-%d}")
    if "PCIE_IF_VER" in registers:
        told.append(f"PCIe interface {registers['PCIE_IF_VER']}")
    return ", ".join(told)


def cards(lab: Lab, kind: str) -> list[Card]:
    """The lab's cards, of this kind, with their firmware, as their registers tell it."""
    facts = lab.facts
    guest = facts.get("guest", {})
    found = []
    for number, card in enumerate(facts.get("cards", [])):
        seen = [one for one in guest.get("cards", []) if one.get("card") == number]
        pci: dict[str, Any] = seen[0] if seen else {}
        try:
            registers = lab.control.registers(card["name"])
            firmware = firmware_of(registers)
        except LabError as problem:
            firmware = f"does not say: {problem.message}"
        found.append(
            Card(
                card["name"],
                kind,
                card["model"],
                firmware,
                str(pci.get("pci") or ""),
                str(pci.get("driver") or ""),
                int(card.get("ports", 0)),
            )
        )
    return found
