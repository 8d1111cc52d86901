"""What tells one card from another of its model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CardIdentity:
    """What tells one card from another of its model: name in the lab, serial text, MAC of port 0."""

    name: str
    serial: str
    mac: bytes

    def port_mac(self, port: int) -> bytes:
        """MAC of a port: consecutive, the low 24 bits counting."""
        low = (int.from_bytes(self.mac[3:], "big") + port) & 0xFFFFFF
        return self.mac[:3] + low.to_bytes(3, "big")
