"""What the preload library itself costs: exact instructions and cache lines, counted natively by valgrind.

The library is linked with a stand-in for the kernel module in plain memory (``datapath/libexasock/bench``),
so the counts are the library's alone, from the entry of ``send`` or ``recv`` to its return. They are the same
on every run; another compiler or C library may give others.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from lab.errors import LabError

LIBRARY = Path(__file__).resolve().parents[2] / "datapath/libexasock"
Figures = dict[str, float]
#: What the program calls a way, and the function that it calls.
WAYS = {"send": "send", "receive": "recv"}
SIZES = (64, 1400)
#: Attached sockets: the figures must not tell them apart (N11).
ALONE, MANY = 1, 512
LINE = 64


def _valgrind(options: list[str], way: str, size: int, sockets: int, count: int) -> tuple[str, str]:
    """Run the program under a tool; what it and the tool said."""
    program = LIBRARY / "build/hot_path"
    with tempfile.NamedTemporaryFile("r") as log:
        argv = ["valgrind", f"--log-file={log.name}", *options, str(program), way]
        # of one length, so that the stack begins at the same byte of a cache line
        argv += [f"{number:04}" for number in (size, sockets, count)]
        done = subprocess.run(argv, check=False, capture_output=True, text=True)
        said = log.read()
    if done.returncode:
        raise LabError(f"{' '.join(argv)} ended with {done.returncode}: {done.stderr}{said[-500:]}")
    return done.stdout, said


def instructions(way: str, size: int, sockets: int) -> float:
    """Instructions of one call: what twice as many datagrams cost more, so everything before drops out."""
    count = 100
    options = ["--tool=callgrind", "--callgrind-out-file=/dev/null", f"--toggle-collect={WAYS[way]}"]
    sums = []
    for times in (count, 2 * count):
        said = _valgrind(options, way, size, sockets, times)[1]
        found = re.search(r"Collected : (\d+)", said)
        if found is None:
            raise LabError(f"callgrind counted nothing: {said}")
        sums.append(int(found[1]))
    return (sums[1] - sums[0]) / count


def _accesses(trace: str, mark: int) -> Iterator[tuple[str, int, int]]:
    """Kind (I, L, S, M), address and size of what happened between the last two stores to ``mark``."""
    lines = trace.splitlines()
    marks = [
        at
        for at, line in enumerate(lines)
        if line.startswith(" S ") and int(line[3:].split(",")[0], 16) == mark
    ]
    for line in lines[marks[-2] + 1 : marks[-1]]:
        kind, _, rest = line.strip().partition(" ")
        address, _, size = rest.strip().partition(",")
        yield kind, int(address, 16), int(size)


def cache_lines(way: str, size: int, sockets: int) -> tuple[int, int]:
    """Distinct cache lines that the last of a few datagrams touches: of data, and of code."""
    printed, trace = _valgrind(["--tool=lackey", "--trace-mem=yes"], way, size, sockets, 4)
    data: set[int] = set()
    code: set[int] = set()
    for kind, address, length in _accesses(trace, int(printed, 16)):
        touched = range(address // LINE, (address + length - 1) // LINE + 1)
        (code if kind == "I" else data).update(touched)
    return len(data), len(code)


def figures() -> tuple[Figures, dict[str, str]]:
    """``lib_send64_instructions``, ``lib_send64_data_lines`` and so on, and what many sockets change."""
    if shutil.which("valgrind") is None:
        raise LabError("valgrind is not there", hint="lab/bootstrap.sh bench installs it")
    subprocess.run(["make", "-s", "-C", str(LIBRARY), "bench"], check=True)
    found: Figures = {}
    remarks: dict[str, str] = {}
    differing = 0
    for way in WAYS:
        for size in SIZES:
            name = f"lib_{'recv' if way == 'receive' else way}{size}"
            one = (instructions(way, size, ALONE), *cache_lines(way, size, ALONE))
            many = (instructions(way, size, MANY), *cache_lines(way, size, MANY))
            for what, alone, among in zip(
                ("instructions", "data_lines", "code_lines"), one, many, strict=True
            ):
                found[f"{name}_{what}"] = alone
                same = "the same" if alone == among else f"{among:.0f}"
                remarks[f"{name}_{what}"] = f"with {MANY} sockets attached: {same}"
                differing += alone != among
    found["lib_ns512_differing_counts"] = float(differing)
    remarks["lib_ns512_differing_counts"] = (
        f"of {len(remarks)} counts, those that {MANY} attached sockets change"
    )
    return found, remarks
