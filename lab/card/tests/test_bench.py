"""The bench runs, counts every frame, and names its figures as the aggregate bench expects."""

from __future__ import annotations

from lab.card.bench import figures


def test_figures() -> None:
    """All names are there; no figure is asserted: that is what the bench is for."""
    found = figures(seconds=0.02)
    assert set(found) == {
        "card_tx_fps_64",
        "card_tx_fps_64_pump",
        "card_rx_fps_64",
        "card_tx_fps_64_python",
        "card_rx_fps_64_python",
    }
    assert all(value > 0 for value in found.values())
