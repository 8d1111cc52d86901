"""``python -m suites.real.player PLAYER_SPEC SPEC``: the card that plays a real one, and beside it the lab's
own cardd.

Two daemons, two wires: what a test does to the lab's wire does not touch the cables of the card that plays.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from lab.cardd import spec as specs
from lab.cardd.__main__ import main as cardd
from lab.cardd.daemon import Daemon


def main() -> None:
    player, own = sys.argv[1:]
    daemon = Daemon(specs.load(Path(player)))
    # Ends with the process: it has no captures to write out.
    threading.Thread(target=daemon.loop.run, name="player", daemon=True).start()
    try:
        cardd(["--spec", own], standalone_mode=False)
    finally:
        for server in daemon.servers.values():
            server.path.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
