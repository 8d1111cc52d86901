"""``python -m suites.bench``: measure, print the table, write ``out/bench.json`` (one flat object)."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from lab import api, console, paths
from lab.errors import LabError
from suites.bench.machine import describe
from suites.bench.measures import ACCELERATED, COUNTED, LIBRARY, OTHERS, Bench, others


@dataclass(frozen=True)
class Goal:
    """What a figure should reach; ``less``: smaller is better."""

    value: float
    unit: str
    less: bool = False

    def met(self, figure: float) -> bool:
        return figure <= self.value if self.less else figure >= self.value

    def __str__(self) -> str:
        value = f"{self.value:,.0f}" if self.value >= 2 else f"{self.value:g}"
        return f"{'at most' if self.less else 'at least'} {value} {self.unit}".rstrip()


#: For two cores without usable KVM.
GOALS = {
    "lab_up_warm_s": Goal(15, "s", less=True),
    "images_cold_s": Goal(300, "s", less=True),
    "ns512_up_ping_s": Goal(60, "s", less=True),
    "card_tx_fps_64": Goal(100_000, "frames/s"),
    "card_rx_fps_64": Goal(100_000, "frames/s"),
    "lab_fps_64": Goal(12_000, "frames/s"),
    "lab_tcp_mbit_s": Goal(150, "Mbit/s"),
    "udp_send64_over_kernel": Goal(0.25, "", less=True),
    "udp_recv64_over_kernel": Goal(0.25, "", less=True),
    "udp_cost_ns512_over_ns1": Goal(1.02, "", less=True),
    "udp_cost_ns_over_init": Goal(1.02, "", less=True),
    "tcp_msg64_over_kernel": Goal(0.3, "", less=True),
    "tcp_cost_ns512_over_ns1": Goal(1.02, "", less=True),
    "tcp_connect_rate_over_kernel": Goal(0.9, ""),
    "tcp_recv64_system_calls": Goal(0, "", less=True),
    "victim_fast_share_min": Goal(0.99, ""),
    "victim_rate_under_attack_min": Goal(0.9, ""),
    "ns_kernel_kib": Goal(64, "KiB", less=True),
    "frag_flood_instructions_1000_over_1": Goal(1.05, "", less=True),
    "lib_ns512_differing_counts": Goal(0, "", less=True),
}


def table(
    figures: dict[str, float], remarks: dict[str, str], machine: dict[str, str | float], whole: bool
) -> Table:
    """Goal, figure and what limits it, for people. ``whole``: a goal without a figure is told too."""
    told = Table(
        title="exalab bench", caption=", ".join(f"{name} {value}" for name, value in machine.items())
    )
    for column in ("figure", "goal", "measured", "what limits it, how it was measured"):
        told.add_column(column, justify="right" if column == "measured" else "left")
    for name in [*(name for name in GOALS if name in figures), *(one for one in figures if one not in GOALS)]:
        goal, figure = GOALS.get(name), figures[name]
        shown = f"{figure:,.0f}" if figure >= 1000 else f"{figure:,.2f}"
        style = "" if goal is None else "green" if goal.met(figure) else "red"
        told.add_row(name, str(goal or ""), f"[{style}]{shown}[/]" if style else shown, remarks.get(name, ""))
    for name in GOALS if whole else ():
        if name not in figures:
            told.add_row(name, str(GOALS[name]), "-", "not measured")
    for name, remark in remarks.items():
        if name not in figures:
            told.add_row(name, "", "-", remark)
    return told


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m suites.bench", description=__doc__)
    parser.add_argument("--lab", default=os.environ.get("LAB", "bench"), help="name of the lab to measure")
    parser.add_argument("--keep", action="store_true", help="leave the lab up afterwards")
    bench = Bench("")
    outside, inside = [*OTHERS, LIBRARY], [*bench.measures(), *ACCELERATED, *COUNTED]
    parser.add_argument("--lab-only", action="store_true", help="measure only the figures of the lab")
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="NAME",
        choices=[*outside, *inside],
        help=f"measure only these; the lab may be up: {', '.join([*outside, *inside])}",
    )
    options = parser.parse_args()
    machine = describe()
    bench.name = options.lab
    in_lab = not options.only or not set(inside).isdisjoint(options.only)
    try:
        figures, remarks = ({}, {}) if options.lab_only else others(options.only)
        if in_lab:
            bench.run(options.only)
            lab = api.Lab.attach(options.lab)
            machine["accelerator"] = lab.accelerator.name
            machine["accelerator_reason"] = lab.accelerator.reason
            machine["placement"] = "one processor" if "processor" in lab.facts else "all processors"
    except LabError as error:
        console.die(error.message, hint=error.hint)
    finally:
        if in_lab and not options.keep:
            api.down(options.lab)
    figures |= bench.figures
    remarks |= bench.remarks
    target = paths.out() / "bench.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    flat: dict[str, float] = {name: round(value, 3) for name, value in figures.items()}
    flat |= {name: value for name, value in machine.items() if isinstance(value, float)}
    target.write_text(json.dumps(flat, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    Console(width=150).print(table(figures, remarks, machine, not options.only))
    print(f"written to {target}")
    if bench.failed:
        told = "; ".join(f"{name}: {why.strip()}" for name, why in bench.failed.items())
        console.die(f"not measured: {told}", hint=f"the others are; again: --only {' '.join(bench.failed)}")


if __name__ == "__main__":
    main()
