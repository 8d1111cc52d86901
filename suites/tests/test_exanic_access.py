"""The table of datapath/exanic/ACCESS.md against the driver's source and the trials in the guest."""

from __future__ import annotations

from suites.driver import access_table, guest_rights


def test_the_table_names_every_operation() -> None:
    """B8: each ethtool operation, flag, ioctl, mapping, clock operation and attribute has its row."""
    assert set(access_table.rows()) == access_table.operations()


def test_every_right_is_known() -> None:
    """B8: the rights that rows name are those that the table explains."""
    assert {row.needs for row in access_table.rows().values()} <= access_table.RIGHTS.keys()


def test_every_row_is_tried() -> None:
    """B8: whatever a program can call is tried in the guest; what only the kernel calls cannot be."""
    called = {name for name, row in access_table.rows().items() if row.needs != "kernel"}
    assert set(guest_rights.ATTEMPTS) == called
