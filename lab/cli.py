"""``python -m lab up|down|status|shell|check|logs|replay|card|host``: what `make lab-…` calls.

Imports are late: a quick no-op must stay quick.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lab import console
from lab.errors import LabError

if TYPE_CHECKING:
    from lab.machine.command import Profile
    from lab.paths import Paths
    from lab.state import State


class Commands(click.Group):
    """The commands, with the groups `card` (of cardd) and `host` beside them, loaded when asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), "card", "host"])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name == "card":
            from lab.cardd.cli import group

            return group(lambda: _paths().control)
        if cmd_name == "host":
            from lab.remote.cli import group as host

            return host
        return super().get_command(ctx, cmd_name)


def _paths() -> Paths:
    """The lab of the command that runs now."""
    from lab.paths import Paths

    found = click.get_current_context().find_object(Paths)
    assert found is not None
    return found


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--name", envvar="LAB", default="lab", show_default=True, help="name of the lab; several run side by side"
)
@click.pass_context
def cli(ctx: click.Context, name: str) -> None:
    """The bench: emulated cards and a virtual machine with our driver."""
    from lab.paths import Paths

    ctx.obj = Paths(name)


@cli.command()
@click.option(
    "--profile", type=click.Choice(["fast", "systemd"]), default="fast", show_default=True, envvar="PROFILE"
)
@click.option("--config", "file", type=click.Path(path_type=Path), help="a file instead of lab/lab.toml")
@click.option("--keep-images", is_flag=True, help="do not build images, even when their sources changed")
@click.option("--renew", is_flag=True, help="restart a lab that runs with another image, wiring or profile")
@click.option("--kernel", envvar="KERNEL", help="a kernel that reports (images.toml): kasan, locks or race")
@click.pass_obj
def up(
    paths: Paths, profile: Profile, file: Path | None, keep_images: bool, renew: bool, kernel: str | None
) -> None:
    """Start the lab. Quick when it is up already."""
    from lab import config
    from lab import up as starting

    given = config.load(file) if file else None
    state = starting.up(
        paths, profile=profile, config=given, keep_images=keep_images, renew=renew, kernel=kernel
    )
    draw(paths, state)
    show(state)


@cli.command()
@click.pass_obj
def down(paths: Paths) -> None:
    """Stop the lab. Its logs and captures stay in out/labs."""
    from lab import api

    with console.step(f"stopping lab {paths.name}"):
        was_up = api.down(paths.name)
    console.out.print(f"lab {paths.name} is down" if was_up else f"lab {paths.name} was not up")


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="print the whole state as JSON")
@click.pass_obj
def status(paths: Paths, as_json: bool) -> None:
    """Show whether the lab is up, its parts, and which of them died. Exit status 0: up and complete."""
    from lab import state as states

    state = states.read(paths)
    alive = states.is_alive(paths)
    if not alive and state.phase not in ("down", "failed"):
        state.phase, state.error = "down", "its supervisor was killed"
    if as_json:
        import json
        from dataclasses import asdict

        click.echo(json.dumps({**asdict(state), "alive": alive}))
    elif not alive:
        console.out.print(f"lab {paths.name} is {state.phase}" + (f": {state.error}" if state.error else ""))
        others()
    else:
        show(state)
    if not as_json:
        leases()
    sys.exit(0 if alive and state.phase == "up" and not state.broken() else 3)


@cli.command(context_settings={"ignore_unknown_options": True})
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--console", "serial", is_flag=True, help="use the serial console instead of ssh (Ctrl-] leaves)"
)
@click.pass_obj
def shell(paths: Paths, command: tuple[str, ...], serial: bool) -> None:
    """Open a shell in the guest, or run one command: `lab shell -- ip -br link`."""
    from lab.api import Lab, await_ssh

    if serial:
        from lab.machine.serial import talk

        talk(paths.serial)
        return
    import shlex

    lab = Lab.attach(paths.name)
    await_ssh(paths, lab.state)
    argv = lab.ssh
    if command:
        # One word is a line for the guest's shell, as ssh takes it; several are a command and its arguments.
        argv.append(command[0] if len(command) == 1 else shlex.join(command))
    os.execvp(argv[0], argv)


@cli.command()
@click.pass_obj
def check(paths: Paths) -> None:
    """Check the lab's parts, driver, ports and the guest's kernel log."""
    from lab.check import check as run

    sys.exit(0 if run(paths) else 1)


@cli.command()
@click.argument(
    "which", type=click.Choice(["serial", "qemu", "cardd", "host", "supervisor"]), default="serial"
)
@click.option("-n", "--lines", default=40, show_default=True)
@click.option("-f", "--follow", is_flag=True)
@click.pass_obj
def logs(paths: Paths, which: str, lines: int, follow: bool) -> None:
    """Show the last lines of a log of this lab."""
    file: Path = getattr(paths, f"{which}_log")
    if not file.exists():
        raise LabError(f"there is no {file}", hint="make lab-up")
    if follow:
        os.execvp("tail", ["tail", "-n", str(lines), "-F", str(file)])
    from lab.process import tail

    click.echo(tail(file, lines))


@cli.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.pass_obj
def replay(paths: Paths, bundle: Path) -> None:
    """Rebuild a failed test's wiring, seed and topology from its bundle, and show how to rerun it."""
    from suites import replay as replaying

    what = replaying.load(bundle)
    changed = replaying.bring_up(paths.name, what)
    if what.topology is not None:
        click.echo(str(what.topology))
    else:
        click.echo("the test had no topology of its own: the lab has the wiring and the seed of that run")
    for difference in changed:
        console.warn(difference)
    prefix = f".venv/bin/python -m lab --name {paths.name}"
    click.echo(f"\nthe test    {what.command(paths.name)}")
    click.echo(f"get in      {prefix} shell")
    click.echo(f"stop it     {prefix} down")


def draw(paths: Paths, state: State) -> None:
    """Bring the picture up to date; only when it is older than the lab."""
    from lab import topology_view

    if paths.drawing.exists() and paths.drawing.stat().st_mtime > paths.plan.stat().st_mtime:
        return
    facts = state.facts
    made = f"image {facts['images']['dut'][7:19]}" if "dut" in facts["images"] else f"host {facts['host']}"
    subtitle = f"{facts.get('kernel', '')} · {facts['accelerator']} · {made}"
    paths.drawing.write_text(topology_view.as_svg(topology_view.view(state), subtitle), encoding="utf-8")


def show(state: State) -> None:
    """The lab for a person: what it is, how it runs, how to get in."""
    from rich.table import Table

    from lab import topology_view
    from lab.paths import Paths

    facts = state.facts
    paths = Paths(state.name)
    option = "" if state.name == "lab" else f" LAB={state.name}"
    word = "broken" if state.broken() else state.phase
    console.out.print(f"[bold]lab {state.name}[/] is [{'green' if word == 'up' else 'red'}]{word}[/]")
    console.out.print(topology_view.as_text(topology_view.view(state)))
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    for row in rows(state, facts, paths, option):
        table.add_row(*row)
    console.out.print(table)
    if problem := state.broken():
        console.error(problem, hint=f"make lab-down lab-up{option}")


def rows(state: State, facts: dict[str, Any], paths: Paths, option: str) -> list[tuple[str, str]]:
    """Label and text of each line under the drawing."""
    found = [
        *(host_rows(facts) if facts.get("host") else guest_rows(facts)),
        ("wiring from", facts["config"]),
        ("files", str(relative(paths.out)) + " (topology.svg, capture/, *.log)"),
        ("get in", f"make lab-shell{option}"),
        ("speak", f".venv/bin/python -m lab --name {state.name} card --help"),
    ]
    if times := facts.get("times"):
        phases = ", ".join(f"{name} {seconds:.1f}" for name, seconds in times.items() if name != "total")
        found.append(("times", f"{times.get('total', 0):.1f} s: {phases}"))
    return found


def guest_rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """Of a lab with a guest."""
    return [
        ("accelerator", f"{facts['accelerator']}: {facts['reason']}"),
        *reporting_rows(facts),
        (
            "guest",
            f"{facts.get('kernel', '-')}, {facts['profile']} profile, "
            f"{facts['cpus']} CPUs, {facts['memory']} MiB"
            + (f", on processor {facts['processor']}" if "processor" in facts else ""),
        ),
        (
            "image",
            f"{facts['images']['dut'][:19]} on "
            + ("the lock" if facts["locked"] else "a fresh, untracked lock"),
        ),
    ]


def reporting_rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """Of a guest whose kernel is not Debian's."""
    if not facts.get("reporting"):
        return []
    from images import definition

    told = definition.kernel(facts["reporting"])
    return [("kernel", f"{told.name}: {told.description}; deadlines are {told.slower:g} times as long")]


def host_rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """Of a lab on another machine."""
    datapath = "was there, not by us" if facts["given"] else "built there by DKMS"
    return [
        ("host", f"{facts['host']}: {facts['system']}, {facts.get('kernel', '-')} ({facts['reason']})"),
        ("datapath", f"{datapath}; roles {facts['images']['roles'][:19]}"),
    ]


def relative(path: Path) -> Path:
    """As seen from where the person is, when that is shorter."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def others() -> None:
    """Name the labs of this checkout that are up."""
    from lab import paths as places
    from lab import state as states

    folder = places.out() / "labs"
    names = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.exists() else []
    alive = [name for name in names if states.is_alive(places.Paths(name))]
    if alive:
        console.out.print(f"up: {', '.join(alive)}")


def leases() -> None:
    """Who has the cards that are shared, where lab.toml says how."""
    from lab import config, lease

    folder = config.load().leases if config.named() is not None else None
    for claim in lease.all_of(folder) if folder is not None else ():
        console.out.print(f"reservation {claim}", markup=False)


def main() -> None:
    """Entry of ``python -m lab``."""
    console.run(cli, "lab")
