"""A night with stand-ins, as a process of its own: ``staged_night.py FOLDER [--resume]``.

Its suites on the emulated card hang until the file ``go`` is in FOLDER.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from lab import paths
from lab.nightly import night
from lab.nightly.__main__ import _interrupted
from lab.nightly.tests.test_night import Stage, config, quiet


def main() -> int:
    folder = Path(sys.argv[1])
    paths.out = lambda: folder / "out"
    signal.signal(signal.SIGTERM, _interrupted)
    stage = Stage(folder, {"suites night-emulated": f"test -e {folder}/go || sleep 4322"})
    resume = "--resume" in sys.argv
    given = config(folder, patience=5.0)
    return night.run(given, resume=resume, commands=lambda _night: stage, recorders=quiet)


if __name__ == "__main__":
    sys.exit(main())
