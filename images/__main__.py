"""python -m images build|verify|lock|debs|kernels|status"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import click

from lab import console
from lab.errors import LabError

from . import build as building
from .definition import ORDER, Workspace
from .lock import Lock


@click.group()
def main() -> None:
    """The lab's images: build, verify, lock."""


@main.command()
@click.argument("names", nargs=-1)
@click.option("--force", is_flag=True, help="build also what is up to date")
def build(names: tuple[str, ...], force: bool) -> None:
    """Build images that are missing or out of date (default: all)."""
    with console.reporting():
        if force:
            for name in names or ORDER:
                (Workspace().images / name / "manifest.json").unlink(missing_ok=True)
        for name, found in building.ensure(names or ORDER).items():
            on = "the tracked lock" if found.locked else "a fresh, untracked lock"
            console.out.print(f"{name:8} {found.digest[:23]} on {on}")


def _each(images: dict[str, Lock], others: dict[str, Callable[[], Lock]]) -> Iterator[tuple[str, Lock]]:
    """Locks by name; the others once those of the images are written, of which they take account."""
    yield from images.items()
    for name, resolve in others.items():
        yield name, resolve()


@main.command()
def lock() -> None:
    """Update the tracked locks from the archive as it is now."""
    from . import choice, host_tree, source
    from . import lock as locks

    with console.reporting():
        images = choice.resolve()
        others = {source.IMAGE: source.resolve, host_tree.NAME: host_tree.resolve}
        for name, fresh in _each(images, others):
            path = choice.tracked_path(name)
            old = locks.read(path) if path.exists() else None
            locks.write(fresh, path)
            changes = locks.compare(old, fresh) if old else []
            text = f"{name}: {len(fresh.packages)} packages, archive of {fresh.header.snapshot}"
            console.say(
                f"{text}\n{locks.table(changes)}" if changes else f"{text}, no change" if old else text
            )


@main.command()
def verify() -> None:
    """Build all images twice from nothing, differently, and compare the bytes."""
    from .verify import verify as check

    with console.reporting():
        check()


@main.command()
def debs() -> None:
    """Package the datapath for other machines: out/packages/*.deb, kernel modules for DKMS."""
    from .debs import PACKAGES, package

    with console.reporting():
        for wanted in PACKAGES:
            console.out.print(str(package(wanted)))


@main.command()
@click.argument("suites", nargs=-1)
def kernels(suites: tuple[str, ...]) -> None:
    """Compile the kernel modules on other suites' headers (default: the oldest served, and the newest)."""
    from .headers import SUITES, compile_on

    with console.reporting():
        results = [compile_on(suite) for suite in suites or SUITES]
        for one in results:
            console.out.print(f"{one.suite:10} {one.release:28} {'failed' if one.errors else 'compiles'}")
        if failed := [one for one in results if one.errors]:
            raise LabError("\n".join(one.errors for one in failed), hint="datapath/exasock/compat.h")


@main.command()
def status() -> None:
    """Show what is built and whether it is up to date."""
    with console.reporting():
        for name in ORDER:
            found = building.current(name)
            console.out.print(
                f"{name:8} {found.digest[:23] + ' up to date' if found else 'missing or out of date'}"
            )


if __name__ == "__main__":
    main()
