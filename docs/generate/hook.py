"""The hook of mkdocs: adds the generated pages, and the documents that live beside their code."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from docs.generate import commands, configuration, faults, fixtures, goals, interfaces, messages, read, rules

#: Pages that are made from code.
PAGES: dict[str, Callable[[], str]] = {
    "reference/configuration.md": configuration.page,
    "reference/commands.md": commands.page,
    "reference/fixtures.md": fixtures.page,
    "reference/ioctls.md": interfaces.ioctls_page,
    "reference/counters.md": interfaces.counters_page,
    "reference/faults.md": faults.page,
    "reference/goals.md": goals.page,
    "reference/messages.md": messages.page,
    "reference/rule-tests.md": rules.page,
}
#: Documents that live beside what they are about.
DOCUMENTS = {
    "reference/registers.md": "lab/card/REGISTERS.md",
    "reference/options.md": "datapath/exasock/HONOUR.md",
    "reference/access.md": "datapath/exanic/ACCESS.md",
    "reference/differences.md": "datapath/libexasock/DIFFERENCES.md",
    "reference/driver-defects.md": "datapath/exanic/DEFECTS.md",
    "datapath.md": "datapath/exasock/DESIGN.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "security.md": "SECURITY.md",
}


def pages_named(nav: object) -> set[str]:
    """The files that a menu of mkdocs.yml names."""
    if isinstance(nav, str):
        return {nav}
    below = nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else ()
    return {name for one in below for name in pages_named(one)}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Pages that mkdocs.yml does not name come last in the menu: nothing that is written is out of reach."""
    docs = Path(config.docs_dir)
    written = {str(path.relative_to(docs)) for path in docs.rglob("*.md")}
    more = sorted(written - pages_named(config.nav))
    if more and config.nav is not None:
        config.nav.append({"More": list(more)})
    return config


def linked(text: str, where: str, name: str) -> str:
    """A document's links, relative to its place in the checkout, as links of the page ``where``."""
    pages = {document: page for page, document in DOCUMENTS.items()}

    def moved(found: re.Match[str]) -> str:
        target, anchor = found[1], found[2] or ""
        path = posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
        page = path.removeprefix("docs/") if path.startswith("docs/") else pages.get(path, path)
        return f"]({posixpath.relpath(page, posixpath.dirname(where) or '.')}{anchor})"

    return re.sub(r"\]\((?!https?:|#)([^)#\s]+)(#[^)]*)?\)", moved, text)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for where, make in PAGES.items():
        files.append(File.generated(config, where, content=make()))
    for where, name in DOCUMENTS.items():
        files.append(File.generated(config, where, content=linked(read(name), where, name)))
    return files
