"""``python -m lab.nightly run|install|remove|status``: what `make nightly…` calls."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import click

from lab import config as configs
from lab import console, paths
from lab.config import Config
from lab.errors import LabError
from lab.nightly import diary, night, units


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--config", "file", type=click.Path(path_type=Path), help="a file instead of lab/lab.toml")
@click.pass_context
def cli(ctx: click.Context, file: Path | None) -> None:
    """Nightly runs: suites on the real and the emulated card, bench, report."""
    ctx.obj = configs.load(file)


def _root() -> None:
    if os.geteuid() != 0:
        raise LabError("nightly runs need root, as the lab does", hint="use sudo")


#: What ends a night; the last is ours, of a lease that was lost.
_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


def _interrupted(number: int, _frame: object) -> None:
    """The first one ends the night; none disturbs the clean-up after that."""
    for one in _SIGNALS:
        signal.signal(one, signal.SIG_IGN)
    raise night.Interrupted(f"ended by {signal.Signals(number).name}")


@cli.command()
@click.option("--resume", is_flag=True, help="only resume an interrupted nightly run")
@click.pass_obj
def run(config: Config, resume: bool) -> None:
    """Start a nightly run now. Exit status 0: all passed; 1: not all; 75: the card is reserved by another."""
    _root()
    for number in _SIGNALS:
        signal.signal(number, _interrupted)

    def lost() -> None:
        os.kill(os.getpid(), signal.SIGUSR1)

    try:
        sys.exit(night.run(config, resume=resume, on_lost=lost))
    except night.Interrupted as problem:
        console.error(str(problem), hint="the folder of the run has the details, a lost reservation included")
        sys.exit(night.FAILED)


@cli.command()
@click.pass_obj
def install(config: Config) -> None:
    """Add a systemd timer, as [nightly] of lab/lab.toml says. Run it again after a change there."""
    _root()
    at = units.install(paths.ROOT, config.nightly)
    console.out.print(f"the next nightly run starts at {at}; results: {night.results(config.nightly)}")


@cli.command()
def remove() -> None:
    """Delete the systemd timer. Results stay."""
    _root()
    console.out.print("removed" if units.remove(paths.ROOT) else "no nightly run was installed")


@cli.command()
@click.option("-n", "--nights", default=5, show_default=True)
@click.pass_obj
def status(config: Config, nights: int) -> None:
    """Show the last nightly runs, step by step."""
    found = diary.nights(night.results(config.nightly))
    if not found:
        console.out.print(f"no nightly run is kept in {night.results(config.nightly)}")
    for one in found[-nights:]:
        console.out.print(str(one), markup=False)


def main() -> None:
    """Entry of ``python -m lab.nightly``."""
    console.run(cli, "lab.nightly")


if __name__ == "__main__":
    main()
