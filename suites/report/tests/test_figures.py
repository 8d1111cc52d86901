"""The bench's figures by their names, and their plots."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from itertools import pairwise
from pathlib import Path

import pytest

from lab.errors import LabError
from suites.report import figures, plot
from suites.report.figures import Figure, Figures, parse
from suites.report.tests import samples


@pytest.mark.parametrize(
    ("name", "series", "measure", "unit", "namespaces", "stat"),
    [
        ("udp_exasock_ns258_rtt_us", "udp_exasock", "rtt", "µs", 258, ""),
        ("tcp_msg_ns512_instructions", "tcp", "msg", "instructions", 512, ""),
        ("udp_kernel_ns2_rtt_p99_us", "udp_kernel", "rtt", "µs", 2, "p99"),
        ("udp_kernel_ns2_rtt_us_p99_9", "udp_kernel", "rtt", "µs", 2, "p99_9"),
        ("lab_fps_64_gro", "lab_fps_64_gro", "frames", "frames/s", None, ""),
        ("lab_fps_64_lost_percent", "lab_fps_64", "lost", "%", None, ""),
        ("lab_tcp_mbit_s_mtu9000", "lab_tcp", "mtu9000", "Mbit/s", None, ""),
        ("namespaces_16_kib_each", "memory", "memory", "KiB each", 16, ""),
        ("ns512_create_s", "create", "create", "s", 512, ""),
        ("something", "something", "something", "", None, ""),
    ],
)
def test_a_name_says_what_it_is(
    name: str, series: str, measure: str, unit: str, namespaces: int | None, stat: str
) -> None:
    assert parse(name, 1.0) == Figure(name, 1.0, series, measure, unit, namespaces, stat)


def test_figures_are_sorted_by_how_they_are_looked_at() -> None:
    named = {"udp_kernel_ns2_rtt_us": 700, "udp_kernel_ns258_rtt_us": 900, "udp_kernel_ns2_send_us": 3}
    named |= {"tcp_ns2_rtt_p50_us": 5, "tcp_ns2_rtt_max_us": 90, "tcp_ns2_rtt_p9_us": 1}
    named |= {"lab_fps_64": 12000, "table_kib": 40, "namespaces_2_kib_each": 30, "namespaces_64_kib_each": 31}
    found = Figures([parse(name, value) for name, value in named.items()])
    (chart,) = found.over_namespaces()
    assert chart.lines == {"udp kernel": [(2, 700), (258, 900)]}
    (spread,) = found.distributions()
    assert spread.rows == {"tcp, 2 namespaces": {"p9": 1, "p50": 5, "max": 90}}
    assert [bars.rows for bars in found.bars()] == [[("lab_fps_64", 12000)], [("table_kib", 40)]]
    (memory,) = found.memory_over_namespaces()
    assert memory.lines == {"memory": [(2, 30), (64, 31)]}


def test_tests_tell_figures_too() -> None:
    assert figures.of_tests([samples.rich()]).figures[0].namespaces == 16


BROKEN = {
    "cannot read": None,
    "not JSON": "{",
    "not figures, but list": "[]",
    "is 'fast', not a number": '{"a": "fast"}',
}


@pytest.mark.parametrize("said", BROKEN)
def test_broken_figures_are_refused_by_name(tmp_path: Path, said: str) -> None:
    path = tmp_path / "bench.json"
    if (text := BROKEN[said]) is not None:
        path.write_text(text)
    with pytest.raises(LabError, match=said) as caught:
        figures.load(path)
    assert "bench.json" in caught.value.message and "make bench" in (caught.value.hint or "")


def test_the_machine_is_no_figure(tmp_path: Path) -> None:
    (tmp_path / "bench.json").write_text(json.dumps({"host_cores": 2.0, "lab_up_s": 8}))
    found = figures.load(tmp_path / "bench.json")
    assert found.machine == {"host_cores": 2.0} and [one.name for one in found.figures] == ["lab_up_s"]


@pytest.mark.parametrize(
    ("top", "expected"),
    [(1.0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]), (1064, [0, 250, 500, 750, 1000, 1250]), (0, [0, 1])],
)
def test_ticks_are_round(top: float, expected: list[float]) -> None:
    assert plot.ticks(top) == expected


@pytest.mark.parametrize(
    "svg",
    [
        plot.lines("rtt", "namespaces", "µs", {f"series {at}": [(2, at), (512, 2 * at)] for at in range(9)}),
        plot.lines("one point <&>", "namespaces", "µs", {"a": [(1, 0.0)]}),
        plot.bars("rates", "frames/s", [("<a>", 1.0, None), ("b", 0.0, 12000.0)]),
        plot.spreads(
            "rtt", "µs", {"a": {"min": 0.0, "p50": 3.0, "p99": 5000.0}, "b": {"p50": 1.0, "max": 1.0}}
        ),
    ],
)
def test_plots_are_svg_with_a_title_in_words(svg: str) -> None:
    """Well-formed whatever the names are, and no number that is none."""
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img"
    title = root.find("{http://www.w3.org/2000/svg}title")
    assert title is not None and title.text
    assert "nan" not in svg.lower().replace("namespaces", "")


def test_labels_of_lines_do_not_meet() -> None:
    placed = plot._spread([10, 11, 12, 280])
    assert all(below - above >= 17 for above, below in pairwise(placed))
