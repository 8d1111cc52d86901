"""A process that wants a lease, for the tests: ``lease_holder.py FOLDER NAME PURPOSE WAIT BEAT DEAD_AFTER
[SECONDS]``.

Says ``has NUMBER`` when it has it and works for SECONDS (or until its input closes), touching a file while
it does, so that two at once are seen; then ``done``, or ``lost``. ``taken`` when it gets none.
"""

from __future__ import annotations

import os
import select
import sys
from pathlib import Path

from lab import lease


def main() -> int:
    folder, name, purpose = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    wait, beat, dead_after = map(float, sys.argv[4:7])
    seconds = float(sys.argv[7]) if len(sys.argv) > 7 else None
    try:
        held = lease.acquire(folder, name, purpose, wait=wait, beat=beat, dead_after=dead_after)
    except lease.Taken as problem:
        print(f"taken {problem.message}", flush=True)
        return 3
    inside = folder / f"inside-{name}"
    try:
        os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        print("two at once", flush=True)
        return 4
    print(f"has {held.claim.number}", flush=True)
    select.select([sys.stdin], [], [], seconds)
    inside.unlink()
    try:
        held.check()
    except lease.Lost as problem:
        print(f"lost {problem.message}", flush=True)
        return 5
    held.give_up()
    print("done", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
