"""The oracle of TCP: conversations that it lets pass, and every kind of lie that it must name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet, Raw

from suites.capture import Captured, dissect
from suites.tcp_oracle import TcpOracle

US, THEM = "10.1.0.1", "10.1.0.2"


@dataclass
class Talk:
    """A conversation as the port of 10.1.0.1 sees it. Numbers count from each side's SYN, which is 0."""

    ours: int = 1000
    theirs: int = 9000
    vid: int | None = None
    frames: list[Captured] = field(default_factory=list)

    def packet(self, sent: bool, flags: str, seq: int, ack: int, payload: bytes, **given: Any) -> Packet:
        head = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
        if self.vid is not None:
            head = head / Dot1Q(vlan=self.vid)
        first, other = (self.ours, self.theirs) if sent else (self.theirs, self.ours)
        tcp = TCP(
            sport=1 if sent else 2, dport=2 if sent else 1, flags=flags, seq=first + seq & 0xFFFFFFFF,
            ack=other + ack & 0xFFFFFFFF if "A" in flags else 0, **given,
        )  # fmt: skip
        return head / IP(src=US if sent else THEM, dst=THEM if sent else US) / tcp / Raw(payload)

    def note(self, packet: Packet, sent: bool) -> None:
        self.frames.append(Captured(dissect(bytes(packet)), sent, len(self.frames), False))

    def say(self, flags: str, seq: int, ack: int = 0, payload: bytes = b"", **given: Any) -> None:
        self.note(self.packet(True, flags, seq, ack, payload, **given), True)

    def hear(self, flags: str, seq: int, ack: int = 0, payload: bytes = b"", **given: Any) -> None:
        self.note(self.packet(False, flags, seq, ack, payload, **given), False)

    def open(self, scale: int | None = None, stamps: bool = False) -> Talk:
        options: list[tuple[str, object]] = [("MSS", 1460)]
        if scale is not None:
            options.append(("WScale", scale))
        if stamps:
            options.append(("Timestamp", (100, 0)))
        self.say("S", 0, options=options, window=1000)
        if stamps:
            options[-1] = ("Timestamp", (500, 100))
        self.hear("SA", 0, 1, options=options, window=1000)
        self.say("A", 1, 1, options=[("Timestamp", (101, 500))] if stamps else [], window=1000)
        return self

    def objections(self, **given: bool | int) -> list[str]:
        return [one.rsplit(": ", 1)[1] for one in TcpOracle("card0:0", **given).examine(self.frames)]  # type: ignore[arg-type]


@pytest.mark.parametrize("ours", [1000, 0xFFFFFFF0, 0xFFFFFFFF])
@pytest.mark.parametrize("vid", [None, 7])
def test_a_conversation_from_its_beginning_to_its_end(ours: int, vid: int | None) -> None:
    """Data both ways over the wrap, some of it again, out of order and together with its end."""
    talk = Talk(ours, 0xFFFFFFFF - ours, vid).open(scale=3)
    talk.say("PA", 1, 1, b"a" * 100, window=1000)
    talk.hear("A", 1, 101, b"", window=1000)
    talk.hear("PA", 41, 101, b"c" * 40, window=1000)
    talk.say("A", 101, 1, window=1000)
    talk.hear("PA", 1, 101, b"b" * 40, window=1000)
    talk.say("A", 101, 81, window=1000)
    talk.say("PA", 1, 81, b"a" * 100 + b"d" * 50, window=1000)
    talk.say("FA", 151, 81, window=1000)
    talk.hear("FA", 81, 152, window=1000)
    talk.say("A", 152, 82, window=1000)
    talk.hear("S", 500)  # something else, later
    talk.say("R", 501)
    assert talk.objections() == []


def test_the_other_side_begins() -> None:
    talk = Talk()
    talk.hear("S", 0, window=500)
    talk.say("SA", 0, 1, window=500)
    talk.hear("A", 1, 1, b"with the acknowledgment of the handshake", window=500)
    talk.say("A", 1, 41, window=460)
    assert talk.objections() == []


def test_the_same_addresses_and_ports_again() -> None:
    talk = Talk().open()
    talk.say("FA", 1, 1)
    talk.ours, talk.theirs = 77_000, 88_000
    talk.open().say("PA", 1, 1, b"another one", window=1000)
    assert talk.objections() == []


def acknowledges_too_much(talk: Talk) -> None:
    talk.hear("PA", 1, 1, b"x" * 10)
    talk.say("A", 1, 12, window=1000)


def acknowledges_over_a_hole(talk: Talk) -> None:
    talk.hear("PA", 11, 1, b"x" * 10)
    talk.say("A", 1, 21, window=1000)


def acknowledges_what_came_broken(talk: Talk) -> None:
    talk.hear("PA", 1, 1, b"x" * 10, chksum=0x1234)
    talk.say("A", 1, 11, window=1000)


def acknowledges_a_fin_that_never_came(talk: Talk) -> None:
    talk.hear("PA", 1, 1, b"x" * 10)
    talk.say("A", 1, 11, window=1000)
    talk.say("A", 1, 12, window=1000)


def takes_an_acknowledgment_back(talk: Talk) -> None:
    talk.hear("PA", 1, 1, b"x" * 10)
    talk.say("A", 1, 11, window=1000)
    talk.say("A", 1, 6, window=1000)


def sends_beyond_the_window(talk: Talk) -> None:
    talk.say("PA", 1, 1, b"x" * 1000, window=1000)
    talk.say("PA", 1001, 1, b"x", window=1000)


def narrows_its_window(talk: Talk) -> None:
    talk.say("A", 1, 1, window=900)


def leaves_a_hole(talk: Talk) -> None:
    talk.say("PA", 11, 1, b"x", window=1000)


def sends_other_bytes_again(talk: Talk) -> None:
    talk.say("PA", 1, 1, b"abcdef", window=1000)
    talk.say("PA", 3, 1, b"cDef", window=1000)


def goes_on_behind_its_fin(talk: Talk) -> None:
    talk.say("FA", 1, 1, window=1000)
    talk.say("PA", 2, 1, b"x", window=1000)


def moves_its_fin(talk: Talk) -> None:
    talk.say("PA", 1, 1, b"abc", window=1000)
    talk.say("FA", 4, 1, window=1000)
    talk.say("FA", 5, 1, window=1000)


def ends_before_what_it_said(talk: Talk) -> None:
    talk.say("PA", 1, 1, b"abc", window=1000)
    talk.say("FA", 2, 1, window=1000)


def goes_on_after_its_reset(talk: Talk) -> None:
    talk.say("RA", 1, 1)
    talk.say("PA", 1, 1, b"x", window=1000)


def is_too_long(talk: Talk) -> None:
    talk.hear("A", 1, 1, window=5000)
    talk.say("PA", 1, 1, b"x" * 1461, window=1000)


def is_not_what_its_sum_says(talk: Talk) -> None:
    talk.say("PA", 1, 1, b"x", window=1000, chksum=1)


def stamps_without_agreement(talk: Talk) -> None:
    talk.say("A", 1, 1, window=1000, options=[("Timestamp", (1, 1))])


def acknowledges_nothing(talk: Talk) -> None:
    talk.say("P", 1, 0, b"x", window=1000)


LIES = {
    acknowledges_too_much: "acknowledges 1 bytes that never came",
    acknowledges_over_a_hole: "acknowledges 20 bytes that never came",
    acknowledges_what_came_broken: "acknowledges 10 bytes that never came",
    acknowledges_a_fin_that_never_came: "acknowledges 1 bytes that never came",
    takes_an_acknowledgment_back: "takes back the acknowledgment of 5 bytes",
    sends_beyond_the_window: "1 bytes beyond the window",
    narrows_its_window: "takes back 100 bytes of its window",
    leaves_a_hole: "10 bytes before it were never sent",
    sends_other_bytes_again: "byte 4 was another one",
    goes_on_behind_its_fin: "data after its own FIN",
    moves_its_fin: "its FIN was at 4 before, and is at 5",
    ends_before_what_it_said: "a FIN before data that was already sent",
    goes_on_after_its_reset: "data after its own reset",
    is_too_long: "longer than the 1460 bytes",
    is_not_what_its_sum_says: "its checksum is wrong",
    stamps_without_agreement: "a time stamp that was not agreed on",
    acknowledges_nothing: "it acknowledges nothing",
}


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
@pytest.mark.parametrize("ours", [1000, 0xFFFFFFFE])
def test_lies(lie: object, ours: int) -> None:
    talk = Talk(ours, 0xFFFFFFFF - ours).open()
    assert talk.objections() == []
    lie(talk)  # type: ignore[operator]
    assert any(LIES[lie] in one for one in talk.objections()), talk.objections()  # type: ignore[index]


def test_no_beginning() -> None:
    """Of a connection that never began here nothing is said but a reset of what came; unless it is known to
    have none on the wire, and then its numbers must fit from there on."""
    talk = Talk()
    talk.hear("PA", 1, 1, b"x" * 5, window=100)
    talk.say("PA", 1, 6, b"y", window=1000)
    assert talk.objections() == ["no connection has begun here"]
    assert talk.objections(joined=True, scale=0) == []
    talk.say("A", 2, 7, window=1000)
    assert talk.objections(joined=True, scale=0) == ["it acknowledges 1 bytes that never came"]
    assert talk.objections(joined=True, scale=0, cut=True) == []
    nothing = Talk()
    nothing.say("R", 5)
    assert nothing.objections() == ["it resets what it never heard of"]


def test_a_syn_that_never_came() -> None:
    talk = Talk()
    talk.hear("S", 0)
    talk.theirs += 5
    talk.say("SA", 0, 1)
    assert talk.objections() == ["it acknowledges a SYN that never came"]


def test_what_comes_by_another_vlan_does_not_count() -> None:
    talk = Talk(vid=7).open()
    talk.vid = 8
    talk.hear("PA", 1, 1, b"x" * 10)
    talk.vid = 7
    talk.say("A", 1, 11, window=1000)
    assert talk.objections() == ["it acknowledges 10 bytes that never came"]


def test_gaps_are_let_pass_where_segments_may_be_lost_before_the_port() -> None:
    talk = Talk().open()
    talk.say("PA", 11, 1, b"later", window=1000)
    talk.say("PA", 1, 1, b"0123456789later", window=1000)
    assert talk.objections(gaps=True) == []
    talk.say("PA", 11, 1, b"latex", window=1000)
    assert talk.objections(gaps=True) == ["byte 15 was another one when it was first sent"]


def test_time_stamps() -> None:
    talk = Talk().open(scale=7, stamps=True)
    talk.hear("PA", 1, 1, b"x", options=[("Timestamp", (510, 101))], window=1000)
    talk.say("A", 1, 2, options=[("Timestamp", (102, 510))], window=1000)
    assert talk.objections() == []
    talk.say("A", 1, 2, window=1000)
    talk.say("A", 1, 2, options=[("Timestamp", (101, 510))], window=1000)
    talk.say("A", 1, 2, options=[("Timestamp", (103, 500))], window=1000)
    talk.say("A", 1, 2, options=[("Timestamp", (103, 511))], window=1000)
    assert talk.objections() == [
        "no time stamp",
        "its time stamp goes back by 1",
        "the time stamp that it echoes goes back by 10",
        "it echoes a time stamp that never came, 511",
    ]


def test_windows_are_scaled_beyond_the_handshake() -> None:
    talk = Talk().open(scale=4)
    talk.hear("A", 1, 1, window=1000)
    talk.say("PA", 1, 1, b"x" * 1400, window=1000)
    for start in range(1401, 15_401, 1400):
        talk.say("PA", start, 1, b"x" * 1400, window=1000)
    assert talk.objections() == []
    talk.say("PA", 15_401, 1, b"x" * 601, window=1000)
    assert talk.objections() == ["1 bytes beyond the window of its peer"]


def test_a_capture_that_begins_with_a_probe() -> None:
    """A probe, of a window or of the peer's life, has the number before; a byte missing later is told."""
    talk = Talk()
    talk.say("A", 10, 50)
    talk.hear("A", 50, 11)
    talk.say("PA", 11, 50, b"a" * 20)
    assert talk.objections(joined=True, scale=0, cut=True) == []
    assert talk.objections(joined=True, scale=0) == ["1 bytes before it were never sent"]
    talk.say("PA", 32, 50, b"b")
    assert talk.objections(joined=True, scale=0, cut=True) == ["1 bytes before it were never sent"]
