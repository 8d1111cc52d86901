"""What a machine can be refused for: each with what to do about it."""

from __future__ import annotations

from typing import Any

import pytest

from lab.errors import LabError
from lab.remote import ssh, verdict

FIT: dict[str, Any] = {
    "id": "debian",
    "version": "13",
    "name": "Debian GNU/Linux 13 (trixie)",
    "lts": False,
    "kernel": "6.12.1",
    "architecture": "x86_64",
    "uid": 0,
    "headers": True,
    "journal": None,
    "modules": {"exanic": None, "exasock": None},
    "library": False,
    "packages": {},
    "secure_boot": {"on": False, "enrolled": False},
    "cards": [],
    "users": [],
}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"version": "12"},
        {"version": ""},
        {"id": "ubuntu", "version": "24.04", "lts": True},
        {"secure_boot": {"on": True, "enrolled": True}},
    ],
)
def test_fit(more: dict[str, Any]) -> None:
    """Debian 12 on, testing without a number, Ubuntu's long-term releases; Secure Boot that knows the key."""
    verdict.check("m", {**FIT, **more})


@pytest.mark.parametrize(
    ("more", "error"),
    [
        (
            {"id": "fedora", "version": "40", "name": "Fedora 40"},
            "m is Fedora 40, for which there are no roles",
        ),
        ({"version": "11", "name": "Debian 11"}, "m is Debian 11, for which"),
        ({"id": "ubuntu", "version": "22.04", "lts": True, "name": "Ubuntu 22.04"}, "m is Ubuntu 22.04, for"),
        ({"id": "ubuntu", "version": "25.10", "name": "Ubuntu 25.10"}, "m is Ubuntu 25.10, no LTS release"),
        ({"architecture": "aarch64"}, "m is aarch64: the datapath is for x86_64"),
        ({"uid": 1000}, "m: not root there"),
        ({"headers": False}, "m has no headers of its kernel 6.12.1"),
        ({"secure_boot": {"on": True, "enrolled": False}}, "m has Secure Boot on"),
        ({"users": [(7, "venue")]}, r"m: process 7 \(venue\) has accelerated sockets"),
        (
            {"journal": {"digest": "", "by": "?", "broken": True}},
            "the journal m:/var/lib/exalab/host.json cannot",
        ),
        ({"library": True}, "m has the library of exasock, which is not ours"),
        (
            {"cards": [{"against": {"message": "card 1 is in use: process 9", "hint": "kill 9"}}]},
            "m: card 1 is in use: process 9",
        ),
    ],
)
def test_unfit(more: dict[str, Any], error: str) -> None:
    """What is missing is named with its remedy."""
    with pytest.raises(LabError, match=error) as caught:
        verdict.check("m", {**FIT, **more})
    assert caught.value.hint


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (
            "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
            "another one",
        ),
        ("ssh: connect to host m port 22: Connection timed out", "m does not answer"),
        ("ssh: connect to host m port 22: No route to host", "m cannot be reached"),
        ("sudo: a password is required", "may not become root without a password"),
        ("bash: line 1: python3: command not found", "m has no python3"),
        ("something else", "ssh to m ended with status 255:\nsomething else"),
    ],
)
def test_what_ssh_says(said: str, error: str) -> None:
    """In words that help."""
    problem = ssh.explained("m", said, 255)
    assert error in problem.message
    assert problem.hint
