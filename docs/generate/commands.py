"""``reference/commands``: what each command says of itself."""

from __future__ import annotations

import re
import subprocess
import sys

import click

from docs.generate import ROOT, read, table
from images.__main__ import main as images
from lab.cli import cli as lab
from lab.lint import in_builder
from lab.nightly.__main__ import cli as nightly

#: Commands that are not click's: how to call them.
OTHERS = (
    ("python -m suites.report", [sys.executable, "-m", "suites.report", "--help"]),
    ("python -m suites.bench", [sys.executable, "-m", "suites.bench", "--help"]),
)
MANUALS = ("datapath/tools/exasock.1", "datapath/tools/exasock-stat.8")


def targets() -> str:
    """The targets of the Makefile, with their own descriptions."""
    rows = re.findall(r"^([a-z-]+):.*?## (.*)$", read("Makefile"), re.MULTILINE)
    return table(("target", "what it does"), [(f"`make {name}`", text) for name, text in rows])


def helps(command: click.Command, name: str, level: int) -> list[str]:
    """The help of a command and of those below it."""
    context = click.Context(command, info_name=name, max_content_width=100, terminal_width=100)
    parts = [f"{'#' * level} `{name}`\n\n```text\n{command.get_help(context)}\n```\n"]
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            one = command.get_command(context, below)
            if one is not None:
                parts += helps(one, f"{name} {below}", level + 1 if level < 4 else level)
    return parts


def output(argv: list[str]) -> str:
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True, env={"COLUMNS": "100"})
    return done.stdout.replace(f"{ROOT}/", "")


def manual(name: str) -> str:
    """A manual page as Markdown, its headings below the page's."""
    text = output(in_builder("mandoc", "-T", "markdown", f"/src/{name}"))
    body = text.split("\n", 2)[2] if "\n" in text else text
    return re.sub(r"^(#+) ", r"##\1 ", body, flags=re.MULTILINE)


def page() -> str:
    parts = [
        "# Commands\n\nMade from the code: what each command says of itself.\n",
        "## make\n",
        targets(),
        "`LAB=name` names the lab, `LABS=4` uses four labs at once (`make suites`), `PROFILE=systemd` boots"
        " the whole system, `KERNEL=kasan` (or `locks`, `race`) boots a kernel that reports.\n\n"
        "`LOCKED=1` takes exactly the locked packages: when the archive no longer has one, it refuses and"
        " names it. Without it a fresh, untracked lock is made, and the differences are shown.\n",
        *helps(lab, "python -m lab", 2),
        *helps(images, "python -m images", 2),
        *helps(nightly, "python -m lab.nightly", 2),
        *(f"## `{name}`\n\n```text\n{output(argv)}```\n" for name, argv in OTHERS),
        *(f"## {name.rsplit('/', 1)[1].replace('.', '(')})\n\n{manual(name)}\n" for name in MANUALS),
    ]
    return "\n".join(parts)
