"""``python -m lab.cardd --spec spec.json``: serve a lab's cards until SIGTERM."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import click

from lab.cardd import spec as specs
from lab.cardd.daemon import Daemon
from lab.console import reporting
from lab.errors import LabError


@click.command()
@click.option(
    "--spec", "spec_path", type=click.Path(path_type=Path), required=True, help="What to serve (JSON)."
)
@click.option("--ready-fd", type=int, help="Descriptor that gets the ready line, too; closed afterwards.")
@click.option("--log-level", default="INFO", show_default=True)
def main(spec_path: Path, ready_fd: int | None, log_level: str) -> None:
    """Serve the cards, the wire and the testers of one lab.

    When everything is listening, one JSON line with "ready": true goes to standard output.
    """
    logging.basicConfig(level=log_level.upper(), format="%(asctime)s %(name)s %(levelname)s %(message)s")
    with reporting():
        spec = specs.load(spec_path)
        try:
            daemon = Daemon(spec)
        except (OSError, ValueError, KeyError) as problem:
            raise LabError(f"the card daemon cannot start: {problem}") from problem
        try:
            daemon.run(lambda: _announce(spec, ready_fd))
        finally:
            daemon.close()


def _announce(spec: specs.Spec, ready_fd: int | None) -> None:
    sockets = {card.name: str(card.socket) for card in spec.cards}
    line = json.dumps({"ready": True, "pid": os.getpid(), "control": str(spec.control), "cards": sockets})
    click.echo(line)
    if ready_fd is not None:
        with os.fdopen(ready_fd, "w", encoding="utf-8") as pipe:
            pipe.write(line + "\n")


if __name__ == "__main__":
    main()
