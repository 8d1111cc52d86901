"""The night as systemd's: a service, a timer, and what goes on after a power cut. Installed and removed as a
whole.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from lab.errors import LabError
from lab.nightly.settings import Settings

FOLDER = Path("/etc/systemd/system")
SERVICE, TIMER, RESUME = "exalab-nightly.service", "exalab-nightly.timer", "exalab-nightly-resume.service"
#: Marks our files, and tells which checkout they are of.
_MARK = "# exalab, checkout "

_OTHERWISE = "have cron run: .venv/bin/python -m lab.nightly run"

Run = Callable[[Sequence[str]], str]


def run(argv: Sequence[str]) -> str:
    """A command's output. Raises ``LabError`` with what it said."""
    try:
        done = subprocess.run(list(argv), capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise LabError(f"there is no {argv[0]} on this machine", hint=_OTHERWISE) from None
    if done.returncode != 0:
        hint = None if Path("/run/systemd/system").exists() else f"systemd does not run here: {_OTHERWISE}"
        raise LabError(f"{' '.join(argv)} failed: {(done.stderr or done.stdout).strip()}", hint=hint)
    return done.stdout


def _service(root: Path, description: str, words: str, install: str = "") -> str:
    # The labs are processes of the night's, and end with it; it is told first, and cleans up.
    return f"""{_MARK}{root}
[Unit]
Description={description}
After=network-online.target remote-fs.target
Wants=network-online.target

[Service]
Type=oneshot
WorkingDirectory={root}
ExecStart={root}/.venv/bin/python -m lab.nightly run{words}
TimeoutStartSec=infinity
TimeoutStopSec=15min
KillMode=mixed
SuccessExitStatus=75
{install}"""


def units(root: Path, settings: Settings) -> dict[str, str]:
    """The files, by name. ``root`` is the checkout that the night is of."""
    if any(char.isspace() or char in '%"\\\\$' for char in str(root)):
        raise LabError(f"a service cannot run in {root}", hint="move the checkout to a path without spaces")
    timer = f"""{_MARK}{root}
[Unit]
Description=exalab's night

[Timer]
OnCalendar={settings.at}
Persistent=true

[Install]
WantedBy=timers.target
"""
    again = "\n[Install]\nWantedBy=multi-user.target\n"
    return {
        SERVICE: _service(root, "exalab's night: suites on the real and on an emulated card", ""),
        TIMER: timer,
        RESUME: _service(root, "exalab's night, after the machine was power-cycled", " --resume", again),
    }


def owner(folder: Path) -> Path | None:
    """The checkout whose night is installed; None: no night is."""
    try:
        first = (folder / SERVICE).read_text(encoding="utf-8").partition("\n")[0]
    except OSError:
        return None
    return Path(first.removeprefix(_MARK)) if first.startswith(_MARK) else Path("somebody else's")


def install(root: Path, settings: Settings, folder: Path = FOLDER, command: Run = run) -> str:
    """Have the night run by systemd; again, to take over a change of lab.toml. When it runs next.

    Raises ``LabError`` when another checkout's is installed, or systemd refuses; then nothing is installed.
    """
    files = units(root, settings)
    before = owner(folder)
    if before is not None and before != root:
        raise LabError(
            f"nightly runs of another checkout are installed here: {before}",
            hint=f"run make nightly-remove there first, or remove {folder}/exalab-nightly*",
        )
    event = command(["systemd-analyze", "calendar", settings.at])
    try:
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
        command(["systemctl", "daemon-reload"])
        command(["systemctl", "enable", "--now", TIMER])
        command(["systemctl", "enable", RESUME])
    except (OSError, LabError) as problem:
        remove(root, folder, command, missing_ok=True)
        if isinstance(problem, LabError):
            raise
        raise LabError(f"nightly runs cannot be installed: {problem}", hint="run as root") from problem
    found = [line.split(":", 1)[1].strip() for line in event.splitlines() if "Next elapse" in line]
    return found[0] if found else settings.at


def remove(root: Path, folder: Path = FOLDER, command: Run = run, missing_ok: bool = False) -> bool:
    """Nothing of the night is installed when this returns. Whether something was.

    Raises ``LabError`` when what is installed is another checkout's.
    """
    before = owner(folder)
    if before is not None and before != root:
        raise LabError(
            f"the installed nightly runs are another checkout's: {before}",
            hint="run make nightly-remove there",
        )
    there = [name for name in (TIMER, RESUME, SERVICE) if (folder / name).exists()]
    for name in there:
        try:
            command(
                ["systemctl", "disable", "--now", name] if name != SERVICE else ["systemctl", "stop", name]
            )
        except LabError:
            if not missing_ok:
                raise
    for name in there:
        (folder / name).unlink()
    if there:
        try:
            command(["systemctl", "daemon-reload"])
        except LabError:
            if not missing_ok:
                raise
    return bool(there)
