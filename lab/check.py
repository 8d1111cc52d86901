"""`lab check`: is the lab whole, and every port cabled as lab.toml says? The suites look deeper, after every
test.
"""

from __future__ import annotations

import re

from lab import console
from lab.api import Lab
from lab.paths import Paths

#: What a healthy kernel never says.
BAD = re.compile(
    r"BUG:|WARNING:|Oops|KASAN|lockdep|Call Trace|soft lockup|general protection|unregister_netdevice"
)


def check(paths: Paths) -> bool:
    """Print one line per question, and the cabling that was found; whether all is well. ``LabError``: no
    lab.
    """
    with Lab.attach(paths.name) as lab:
        facts = lab.facts
        seen = facts.get("guest", {"cards": [], "ports": []})
        expected = sum(card["ports"] for card in facts["cards"])
        dmesg = lab.agent.exec(["dmesg"]).stdout
        from suites import cabling

        found = cabling.prove(lab)
    bad = [line for line in dmesg.splitlines() if BAD.search(line)]
    answers = [
        ("supervisor, cards and machine live", True, ""),
        ("the guest answers", True, f"kernel {facts['kernel']}"),
        (
            "every card is bound",
            all(card["driver"] for card in seen["cards"]) and len(seen["cards"]) == len(facts["cards"]),
            ", ".join(f"{card['pci']} {card['driver'] or 'no driver'}" for card in seen["cards"]),
        ),
        (
            "every port has a net device",
            len(seen["ports"]) == expected,
            f"{len(seen['ports'])} of {expected}",
        ),
        ("every port is cabled as the lab has it", found.good, ""),
        ("the kernel log is clean", not bad, "\n".join(bad[:10])),
    ]
    for question, good, detail in answers:
        mark = "[green]ok[/]  " if good else "[red]FAIL[/]"
        console.out.print(f"{mark} {question}" + (f": {detail}" if detail else ""))
    console.out.print(found.drawing())
    return all(good for _, good, _ in answers)
