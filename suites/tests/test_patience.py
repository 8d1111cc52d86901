"""What the suites take for the shipped parameters is what the modules are shipped with."""

from __future__ import annotations

from suites.patience import PATIENCES
from suites.report.origin import shipped


def test_shipped_is_what_the_sources_say() -> None:
    declared = shipped()
    assert {
        f"exasock.{name}": str(value) for name, value in PATIENCES["shipped"].items()
    }.items() <= declared.items()


def test_every_kind_of_declaration_is_read() -> None:
    """A number, another variable's name, a boolean, none given."""
    declared = shipped()
    assert declared["exasock.slots"] == "64" and declared["exasock.tcp_room"] == "65536"
    assert declared["exasock.tcp"] == "Y" and declared["exanic.fail_step"] == "0"


def test_every_patience_sets_known_parameters() -> None:
    declared = shipped()
    assert all(f"exasock.{name}" in declared for values in PATIENCES.values() for name in values)
