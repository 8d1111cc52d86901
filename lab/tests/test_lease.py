"""Leases among processes: one at a time, dead holders followed, clocks never trusted, the fence holds."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lab import lease
from lab.deadline import Deadline
from lab.errors import LabError
from lab.paths import ROOT

BEAT, DEAD = 0.05, 1.5


class Holder:
    """One process of ``lease_holder``."""

    def __init__(self, folder: Path, purpose: str, wait: float = 60.0, seconds: float | None = None) -> None:
        argv = [sys.executable, "-m", "lab.tests.lease_holder", str(folder), "card", purpose]
        argv += [str(wait), str(BEAT), str(DEAD), *([] if seconds is None else [str(seconds)])]
        self.process = subprocess.Popen(
            argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def says(self) -> str:
        assert self.process.stdout is not None
        Deadline("a word of the holder", 90.0).wait_readable([self.process.stdout.fileno()])
        return self.process.stdout.readline().strip()

    def finish(self) -> list[str]:
        """Let it go; its last words."""
        out, _ = self.process.communicate(timeout=90)
        return str(out).splitlines()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def take(folder: Path, wait: float = 0.0) -> lease.Lease:
    return lease.acquire(folder, "card", "a test", wait=wait, beat=BEAT, dead_after=DEAD)


def test_one_at_a_time(tmp_path: Path) -> None:
    """Ten processes want it at once: each has it, none with another, and every one with a number of its
    own.
    """
    holders = [Holder(tmp_path, f"job {number}", seconds=0.02) for number in range(10)]
    said = [holder.finish() for holder in holders]
    assert all(words[-1] == "done" for words in said), said
    assert sorted(int(words[0].split()[1]) for words in said) == list(range(1, 11))


def test_many_may_look_whether_leases_can_be_kept(tmp_path: Path) -> None:
    """At the same moment, and after one that was killed while it looked: neither is in another's way."""
    held = take(tmp_path)
    refused = []

    def look() -> None:
        for _ in range(200):
            try:
                take(tmp_path)
            except lease.Taken:
                refused.append(True)

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 800
    held.give_up()
    assert not list(tmp_path.glob(".probe*"))


def test_who_has_it_is_told(tmp_path: Path) -> None:
    """With holder, purpose and since when; and when it is free again."""
    assert lease.all_of(tmp_path / "none") == []
    with take(tmp_path) as held:
        with pytest.raises(lease.Taken, match=re.escape(f"card is leased by {lease.me()} since")) as caught:
            take(tmp_path)
        assert caught.value.hint
        (claim,) = lease.all_of(tmp_path)
        assert claim.token == held.claim.token
        assert str(claim).endswith("(a test)")
    assert "free" in str(lease.all_of(tmp_path)[0])
    take(tmp_path).give_up()


def test_a_killed_holder_is_followed(tmp_path: Path) -> None:
    """Once its signs of life have stopped for long enough; before that, nobody takes it."""
    first = Holder(tmp_path, "night")
    assert first.says() == "has 1"
    with pytest.raises(lease.Taken):
        take(tmp_path)
    first.kill()
    (tmp_path / "inside-card").unlink()
    with pytest.raises(lease.Taken):
        take(tmp_path)
    with take(tmp_path, wait=60.0) as held:
        assert held.claim.number == 2


def test_many_follow_a_dead_holder(tmp_path: Path) -> None:
    """Two that see the same death never both have it, also when one of them dies with it at once."""
    first = Holder(tmp_path, "night")
    first.says()
    first.kill()
    (tmp_path / "inside-card").unlink()
    followers = [Holder(tmp_path, f"job {number}", seconds=0.02) for number in range(6)]
    assert [one.finish()[-1] for one in followers] == ["done"] * 6


def test_a_stopped_holder_finds_the_fence(tmp_path: Path) -> None:
    """SIGSTOP is death to those who watch; when it goes on, it learns that it has lost, and takes nothing
    back.
    """
    first = Holder(tmp_path, "night")
    assert first.says() == "has 1"
    os.kill(first.process.pid, signal.SIGSTOP)
    with take(tmp_path, wait=60.0) as held:
        os.kill(first.process.pid, signal.SIGCONT)
        assert first.finish()[-1].startswith(f"lost the reservation of card was lost to {lease.me()}")
        held.check()
        assert held.claim.number == 2
        assert not held.lost.is_set()


def test_the_holder_is_told_when_it_lost(tmp_path: Path) -> None:
    """Its thread notices a follower by itself."""
    told: list[str] = []
    held = lease.acquire(tmp_path, "card", "x", beat=BEAT, on_lost=lambda: told.append("lost"))
    follower = lease.Claim("card", 2, "another", "b@c", "y", "now")
    (tmp_path / "card.000002").write_text(json.dumps(vars(follower)))
    assert held.lost.wait(30.0)
    assert told == ["lost"]
    held.give_up()
    assert lease.last(tmp_path, "card") == follower


@pytest.mark.parametrize("since", ["1970-01-01 00:00:00+0000", "2999-01-01 00:00:00+0000"])
def test_clocks_do_not_count(tmp_path: Path, since: str) -> None:
    """A holder whose machine thinks it is 1970, or 2999, and files with such times: alive while it beats,
    dead when it stops.
    """
    when = 0 if since.startswith("1970") else 2**33

    def claim(beat: int) -> None:
        path = tmp_path / "card.000001"
        fresh = tmp_path / ".fresh"
        fresh.write_text(json.dumps(vars(lease.Claim("card", 1, "t", "a@b", "x", since, beat))))
        os.utime(fresh, (when, when))
        fresh.replace(path)

    claim(0)
    with pytest.raises(lease.Taken):
        take(tmp_path)
    with take(tmp_path, wait=60.0) as held:
        assert held.claim.number == 2


def test_a_file_that_says_nothing_is_somebodys(tmp_path: Path) -> None:
    """Half a file, of a full disk perhaps: not free, and dead like any other when it does not change."""
    (tmp_path / "card.000007").write_text('{"name": "ca')
    with pytest.raises(lease.Taken, match="leased by somebody"):
        take(tmp_path)
    with take(tmp_path, wait=60.0) as held:
        assert held.claim.number == 8


def test_old_files_go(tmp_path: Path) -> None:
    """The directory does not grow, and nothing else stays in it."""
    for _ in range(20):
        take(tmp_path).give_up()
    assert lease.numbers(tmp_path, "card") == list(range(13, 21))
    assert sorted(path.name for path in tmp_path.iterdir())[0] == "card.000013"


def test_a_directory_that_cannot_be_used(tmp_path: Path) -> None:
    """It says so at once, with what it needs."""
    (tmp_path / "file").touch()
    with pytest.raises(LabError, match="reservations cannot be kept in") as caught:
        take(tmp_path / "file")
    assert "hard links" in str(caught.value.hint)
    with pytest.raises(LabError, match="cannot name a reservation"):
        lease.acquire(tmp_path, "../x", "y")


def test_names() -> None:
    """A card's lease is of its machine and its address there."""
    assert lease.name_of("0000:3b:00.0", "venue7") == "venue7-0000:3b:00.0"
