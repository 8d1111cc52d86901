"""One way to run and to start processes: output, deadlines, death, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lab.deadline import Deadline
from lab.errors import DeadlineExpired, ProcessFailed
from lab.process import how_it_ended, run, spawn, tail

TEN = 10.0


def group_is_empty(pgid: int) -> bool:
    """Whether no process, zombies aside, is left in a process group."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, group = stat.read_text().rpartition(")")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(group) == pgid and state != "Z":
            return False
    return True


def test_run_returns_both_streams_apart() -> None:
    """Without a log the two streams come back apart, with the returncode."""
    done = run(["sh", "-c", "echo out; echo err >&2; exit 3"], deadline=TEN, check=False)
    assert (done.stdout, done.stderr, done.returncode, done.ok) == ("out\n", "err\n", 3, False)


def test_run_gives_its_input() -> None:
    """Standard input is what was given, to the last byte, and empty otherwise."""
    assert run(["cat"], deadline=TEN, stdin=b"x" * 200_000).stdout == "x" * 200_000
    assert run(["cat"], deadline=TEN).stdout == ""


def test_run_logs_command_and_output(tmp_path: Path) -> None:
    """A log holds the command and both streams, appended; the lines are also handed out as they come."""
    log = tmp_path / "sub/log"
    lines: list[str] = []
    for word in ("one", "two"):
        done = run(["sh", "-c", f"echo {word}; echo e >&2"], deadline=TEN, log=log, on_line=lines.append)
        assert done.stdout == f"{word}\ne\n"
    assert log.read_text() == "$ sh -c echo one; echo e >&2\none\ne\n$ sh -c echo two; echo e >&2\ntwo\ne\n"
    assert lines == ["one", "e", "two", "e"]


def test_run_failure_says_what_and_last_lines() -> None:
    """An error carries the command, how it ended and what it said last."""
    with pytest.raises(ProcessFailed, match=r"(?s)ended with status 7.*no such card") as caught:
        run(["sh", "-c", "echo no such card >&2; exit 7"], deadline=TEN)
    assert caught.value.returncode == 7


def test_missing_program_says_remedy() -> None:
    """A program that is not installed is an error for people, not a traceback."""
    with pytest.raises(ProcessFailed, match="no exalab-nonesuch") as caught:
        run(["exalab-nonesuch"], deadline=TEN)
    assert caught.value.hint


def test_deadline_ends_the_whole_group(tmp_path: Path) -> None:
    """A run that takes too long is ended with its children, and the error names it."""
    pidfile = tmp_path / "pid"
    with pytest.raises(DeadlineExpired, match="slow thing: not within"):
        run(["sh", "-c", f"echo $$ > {pidfile}; sleep 1000 & sleep 1000"], deadline=0.5, name="slow thing")
    assert group_is_empty(int(pidfile.read_text()))


def test_spawn_death_is_seen_with_log(tmp_path: Path) -> None:
    """A wait on something else ends at once when the watched process dies, with its last words."""
    log = tmp_path / "log"
    with spawn(["sh", "-c", "echo last words; exit 4"], name="card", log=log) as process:
        never_r, never_w = os.pipe()
        with pytest.raises(ProcessFailed, match=r"(?s)card ended with status 4.*last words"):
            Deadline("never", TEN).wait_readable([never_r], watch=[process])
        os.close(never_r)
        os.close(never_w)
    assert process.poll() == 4


def test_wait_until_watches_too() -> None:
    """Polling waits see a death as well, and a deadline is named."""
    with (
        spawn(["false"], name="dead") as process,
        pytest.raises(ProcessFailed, match="dead ended with status 1"),
    ):
        Deadline("x", TEN).wait_until(lambda: None, watch=[process])
    with pytest.raises(DeadlineExpired, match="the moon: not within"):
        Deadline("the moon", 0.05).wait_until(lambda: None)
    assert Deadline("x", TEN).wait_until(lambda: "yes") == "yes"


def test_stop_is_polite_first_then_kills() -> None:
    """SIGTERM, then SIGKILL for one that ignores it; both with all of the group."""
    with spawn(["sleep", "1000"], name="polite") as process:
        assert process.stop() == -signal.SIGTERM
    read, write = os.pipe()
    with spawn(["sh", "-c", "trap '' TERM; sleep 1000 & echo; wait"], name="deaf", stdout=write) as process:
        Deadline("trap set", TEN).wait_readable([read])
        assert process.stop(grace=0.1) == -signal.SIGKILL
        assert group_is_empty(process.pid)
    os.close(read)
    os.close(write)
    assert process.stop() == -signal.SIGKILL


def test_children_die_with_us(tmp_path: Path) -> None:
    """PDEATHSIG: a bench killed outright leaves nothing running."""
    pidfile = tmp_path / "pid"
    code = (
        "import sys, time, pathlib; from lab.process import spawn; p = spawn(['sleep', '1000'], name='x');"
        f"pathlib.Path({str(pidfile)!r}).write_text(str(p.pid)); print(flush=True); time.sleep(1000)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        pid = int(pidfile.read_text())
        parent.kill()
    Deadline("the child's death", TEN).wait_until(lambda: group_is_empty(pid))


def test_runs_from_many_threads() -> None:
    """Image builds run in threads: outputs are never mixed up."""
    results: dict[int, str] = {}

    def work(number: int) -> None:
        results[number] = run(["sh", "-c", f"echo {number}"], deadline=TEN).stdout

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: f"{number}\n" for number in range(8)}


def test_no_descriptor_is_left() -> None:
    """Neither run nor spawn leak descriptors, also when they fail."""
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208
    run(["true"], deadline=TEN)
    run(["false"], deadline=TEN, check=False)
    with pytest.raises(ProcessFailed):
        run(["exalab-nonesuch"], deadline=TEN)
    with spawn(["true"], name="t"):
        pass
    assert set(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_words(tmp_path: Path) -> None:
    """Endings and logs in words."""
    assert how_it_ended(0) == "ended with status 0"
    assert how_it_ended(-9) == "killed by SIGKILL"
    assert tail(tmp_path / "none") == ""
    (tmp_path / "log").write_bytes(b"a\r\nb\nc\n")
    assert tail(tmp_path / "log", 2) == "b\nc"
