"""Fixtures shared with the card's tests."""

from lab.card.tests.conftest import core, fabric, frame, guest

__all__ = ["core", "fabric", "frame", "guest"]
