"""Files that are replaced at once."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from lab.replacing import replacing


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    """And nothing beside it."""
    path = tmp_path / "new" / "told"
    with replacing(path) as fresh:
        fresh.write_text("old")
    with pytest.raises(KeyError), replacing(path) as fresh:
        fresh.write_text("half")
        raise KeyError
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_writers_at_the_same_moment(tmp_path: Path) -> None:
    """Each write is whole, and none fails because of another one."""
    path = tmp_path / "told"
    failed: list[Exception] = []

    def write(letter: str) -> None:
        for _ in range(200):
            try:
                with replacing(path) as fresh:
                    fresh.write_text(letter * 5000)
            except OSError as error:
                failed.append(error)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    text = path.read_text()
    assert not failed and text == text[0] * 5000
    assert list(tmp_path.iterdir()) == [path]
