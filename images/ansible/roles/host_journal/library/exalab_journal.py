"""Ansible module: notes how a machine is before the roles change it, and makes it so again."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.exalab_journal_file import (
    LOCK,
    alone,
    look,
    missing_folders,
    put_back,
    read,
    setting,
    setting_file,
    settings,
    write,
)

DOCUMENTATION = """
module: exalab_journal
short_description: The journal of what was before
description:
  - C(begun) notes files, folders and kernel settings as they are; what is noted already stays so.
  - C(set) makes kernel settings what they are to be, from now on.
  - C(whole) says that all was applied, and what.
  - C(restored) puts everything noted back, and ends the journal.
options:
  state: {required: true, choices: [begun, set, whole, restored]}
  path: {required: true, description: The journal's file.}
  files: {default: [], description: Files that are to be changed or made.}
  folders: {default: [], description: Folders that are ours from the first file on, with all that is in them.}
  settings: {default: "", description: Kernel settings, as sysctl.conf(5) has them.}
  digest: {description: Of what was applied.}
  by: {description: Who applied it.}
author: exalab
"""


def begun(module: AnsibleModule, told: dict[str, Any]) -> bool:
    """Note what is not noted yet. The journal is on the disk afterwards."""
    given = module.params
    before: dict[str, Any] = {
        "files": dict(told.get("files", {})),
        "folders": list(told.get("folders", [])),
        "ours": list(told.get("ours", [])),
        "settings": dict(told.get("settings", {})),
    }
    known = {**before}
    paths = [given["path"], *given["files"], *(f"{folder}/." for folder in given["folders"])]
    made = [folder for path in paths for folder in missing_folders(path)]
    before["folders"] = [*before["folders"], *(one for one in made if one not in before["folders"])]
    for folder in given["folders"]:
        if not Path(folder).exists() and folder not in before["ours"]:
            before["ours"] = [*before["ours"], folder]
    for path in given["files"]:
        before["files"].setdefault(path, look(path))
    for name in settings(given["settings"]):
        if (value := setting(name)) is not None:
            before["settings"].setdefault(name, value)
    if all(before[name] == known[name] for name in before) and Path(given["path"]).exists():
        return False
    if not module.check_mode:
        Path(given["path"]).parent.mkdir(parents=True, exist_ok=True)
        write(given["path"], {**told, **before, "by": given["by"]})
    return True


def in_force(module: AnsibleModule, wanted: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Settings that were others: before and after."""
    changed = {}
    for name, value in wanted.items():
        now = setting(name)
        if now is None or now == " ".join(value.split()):
            continue
        if not module.check_mode:
            try:
                setting_file(name).write_text(f"{value}\n")
            except OSError as problem:
                module.fail_json(msg=f"the kernel refuses {name} = {value}: {problem.strerror}")
        changed[name] = (now, value)
    return changed


def restored(module: AnsibleModule, told: dict[str, Any]) -> list[str]:
    """Everything as it was; what was not, as lines."""
    lines = [f"{name} = {was}" for name, (_, was) in in_force(module, told.get("settings", {})).items()]
    for path, was in told.get("files", {}).items():
        if look(path) != was:
            lines.append(f"{'put back' if was else 'remove'} {path}")
            if not module.check_mode:
                put_back(path, was)
    lines.append(f"remove {module.params['path']}")
    if module.check_mode:
        return lines
    for folder in told.get("ours", []):
        shutil.rmtree(folder, ignore_errors=True)
    Path(module.params["path"]).unlink(missing_ok=True)
    LOCK.unlink()
    for folder in reversed(told.get("folders", [])):
        # One in which somebody else has put something since stays.
        if Path(folder).is_dir() and not any(Path(folder).iterdir()):
            Path(folder).rmdir()
    return lines


def main() -> None:
    """One state."""
    module = AnsibleModule(
        argument_spec={
            "state": {"required": True, "choices": ["begun", "set", "whole", "restored"]},
            "path": {"type": "path", "required": True},
            "files": {"type": "list", "elements": "path", "default": []},
            "folders": {"type": "list", "elements": "path", "default": []},
            "settings": {"type": "str", "default": ""},
            "digest": {"type": "str", "default": ""},
            "by": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    try:
        with alone():
            answer(module)
    except (ValueError, TimeoutError) as problem:
        module.fail_json(msg=str(problem))


def answer(module: AnsibleModule) -> None:
    """Do it, and say what was done."""
    given = module.params
    told = read(given["path"])
    if given["state"] == "begun":
        module.exit_json(changed=begun(module, told))
    if given["state"] == "set":
        changed = in_force(module, settings(given["settings"]))
        diff = {
            side: "".join(f"{name} = {values[number]}\n" for name, values in changed.items())
            for number, side in enumerate(("before", "after"))
        }
        module.exit_json(changed=bool(changed), diff=diff)
    if given["state"] == "whole":
        changed = told.get("digest") != given["digest"]
        if changed and not module.check_mode:
            write(given["path"], {**told, "digest": given["digest"], "by": given["by"]})
        module.exit_json(changed=changed)
    if not Path(given["path"]).exists():
        module.exit_json(changed=False)
    lines = restored(module, told)
    module.exit_json(changed=True, diff={"before": "", "after": "\n".join(lines)})


if __name__ == "__main__":
    main()
