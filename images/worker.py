"""The child that builds, alone in its namespaces. Argument: JSON of images.build._in_child."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from lab.errors import LabError

from .build import build
from .definition import Workspace


def main() -> int:
    """Build; on a LabError leave it for the parent, who tells the person."""
    order = json.loads(sys.argv[1])
    workspace = Workspace(out=Path(order["out"]), cache=Path(order["cache"]), keep_base=order["keep_base"])
    os.umask(0o022)
    try:
        build(order["names"], workspace)
    except LabError as error:
        problem = {"message": error.message, "hint": error.hint}
        Path(order["report"]).write_text(json.dumps(problem), encoding="utf-8")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
