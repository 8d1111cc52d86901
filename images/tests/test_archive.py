"""Where the archive is: every form apt's configuration has, and the environment above all."""

from __future__ import annotations

from pathlib import Path

import pytest

from images.archive import discover
from lab.errors import LabError

DEB822 = """\
# a comment
Types: deb deb-src
URIs: http://mirror.invalid/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.invalid/debian-security/
Suites: bookworm-security
Components: main
"""


def test_deb822(tmp_path: Path) -> None:
    """The usual file of Debian 12 and 13."""
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d/debian.sources").write_text(DEB822)
    found = discover({}, tmp_path)
    assert (found.debian, found.security) == (
        "http://mirror.invalid/debian",
        "http://mirror.invalid/debian-security",
    )


def test_one_line_among_strangers(tmp_path: Path) -> None:
    """Other people's archives, sources and comments are not taken for Debian's."""
    (tmp_path / "sources.list").write_text(
        "deb http://vendor.invalid/tool bookworm main\n"
        "deb-src http://src.invalid/debian bookworm main\n"
        "# deb http://comment.invalid/debian bookworm main\n"
        "deb [arch=amd64 signed-by=/k.gpg] https://mirror.invalid/debian/ trixie main contrib # ours\n"
    )
    found = discover({}, tmp_path)
    assert (found.debian, found.security) == ("https://mirror.invalid/debian", None)


def test_disabled_and_continued(tmp_path: Path) -> None:
    """Enabled: no, and values over several lines."""
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d/a.sources").write_text(
        "Enabled: no\nTypes: deb\nURIs: http://off.invalid/debian\nSuites: trixie\nComponents: main\n\n"
        "Types: deb\nURIs:\n http://on.invalid/debian\nSuites:\n trixie\n trixie-updates\nComponents: main\n"
    )
    assert discover({}, tmp_path).debian == "http://on.invalid/debian"


def test_mirror_list(tmp_path: Path) -> None:
    """Debian's cloud images name a file of mirrors."""
    (tmp_path / "mirrors.list").write_text("# best first\nhttp://first.invalid/debian\tpriority:1\n")
    (tmp_path / "sources.list").write_text(f"deb mirror+file://{tmp_path}/mirrors.list trixie main\n")
    assert discover({}, tmp_path).debian == "http://first.invalid/debian"


def test_environment_wins(tmp_path: Path) -> None:
    """All three variables."""
    found = discover(
        {
            "EXALAB_ARCHIVE": "http://a.invalid/debian/",
            "EXALAB_SECURITY_ARCHIVE": "http://s.invalid",
            "EXALAB_SNAPSHOT": "http://t.invalid/",
        },
        tmp_path,
    )
    assert (found.debian, found.security, found.snapshot) == (
        "http://a.invalid/debian",
        "http://s.invalid",
        "http://t.invalid",
    )


def test_nothing_configured(tmp_path: Path) -> None:
    """Says which variable helps."""
    with pytest.raises(LabError) as caught:
        discover({}, tmp_path)
    assert caught.value.hint and "EXALAB_ARCHIVE" in caught.value.hint
