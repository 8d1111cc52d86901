"""What a tenant does with its own devices while others work. Runs *in the guest*, as the tenant.

Each attack goes on for so many seconds and says what it did: {what: times}.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterator

from suites.guest import iproute

#: Changes that one ip(8) makes.
BATCH = 10
Done = dict[str, int]


def until(seconds: float) -> Iterator[int]:
    """Numbers, for so long; at least one."""
    deadline, number = time.monotonic() + seconds, 0
    while not number or time.monotonic() < deadline:
        yield number
        number += 1


def _repeat(seconds: float, what: str, lines: list[str], between: list[str] | None = None) -> Done:
    for line in between or []:
        iproute.run(None, [line])
    done = 0
    for _ in until(seconds):
        iproute.run(None, lines * BATCH)
        done += BATCH
    return {what: done}


def flapping(seconds: float, device: str = "lan0") -> Done:
    """Its device goes down and up."""
    return _repeat(seconds, "flaps", [f"link set dev {device} down", f"link set dev {device} up"])


def readdressing(seconds: float, device: str = "lan0") -> Done:
    """Its device has another MAC address, another IP address, and other ones again."""
    lines = [
        f"link set dev {device} address 02:00:00:00:ee:01",
        f"addr add 10.66.1.1/24 dev {device}",
        f"link set dev {device} address 02:00:00:00:ee:02",
        f"addr del 10.66.1.1/24 dev {device}",
    ]
    return _repeat(seconds, "addresses", lines)


def renaming(seconds: float, device: str = "lan0") -> Done:
    """Its device has another name, and its own again, while it is up."""
    lines = [f"link set dev {device} name {device}x", f"link set dev {device}x name {device}"]
    return _repeat(seconds, "names", lines)


def macvlans(seconds: float, on: str = "lan0") -> Done:
    """Macvlans on its device come, go up, and go."""
    lines = [
        f"link add link {on} name hm0 type macvlan mode bridge",
        "link set dev hm0 up",
        "link set dev hm0 down",
        "link del dev hm0",
    ]
    return _repeat(seconds, "macvlans", lines)


def dummies(seconds: float) -> Done:
    """The same on a dummy, in a network namespace that has no card at all."""
    iproute.run(None, ["link add hd0 type dummy", "link set dev hd0 up"])
    try:
        return macvlans(seconds, "hd0")
    finally:
        iproute.run(None, ["link del dev hd0"])


def routes(seconds: float, device: str = "lan0") -> Done:
    """Its routes, rules and neighbours change all the time."""
    lines = [
        f"route add 10.77.0.0/16 dev {device}",
        "rule add to 10.77.0.0/16 table 77 priority 77",
        f"neigh replace 10.66.0.77 lladdr 02:00:00:00:ee:77 dev {device} nud permanent",
        f"neigh del 10.66.0.77 dev {device}",
        "rule del priority 77",
        f"route del 10.77.0.0/16 dev {device}",
    ]
    return _repeat(seconds, "routes", lines)


def moving(seconds: float, device: str, address: str) -> Done:
    """Its device moves to another namespace of its own, and back."""
    other = subprocess.Popen(
        ["unshare", "-n", "sh", "-c", "echo; exec sleep 1000"], stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    other.stdout.readline()
    done = 0
    try:
        for _ in until(seconds):
            iproute.run(None, [f"link set dev {device} netns {other.pid}"])
            lines = f"link set dev {device} up\nlink set dev {device} netns {os.getpid()}\n"
            argv = ["nsenter", f"--net=/proc/{other.pid}/ns/net", "ip", "-batch", "-"]
            subprocess.run(argv, input=lines, text=True, check=True)
            iproute.run(None, [f"link set dev {device} up", f"addr add {address} dev {device}"])
            done += 1
    finally:
        other.kill()
        other.wait()
        other.stdout.close()
    return {"moves": done}


def ethtool(seconds: float, device: str = "lan0") -> Done:
    """Everything that ethtool sets: what concerns the card, what concerns the port, what does not exist."""
    settings = [
        ["--set-priv-flags", device, "bridging", "on"],
        ["--set-priv-flags", device, "mirror_rx", "on"],
        ["--set-priv-flags", device, "mirror_tx", "on"],
        ["-E", device, "magic", "0", "offset", "0", "value", "0"],
        ["-C", device, "rx-usecs", "2000"],
        ["-C", device, "rx-usecs", "0"],
        ["-G", device, "rx", "64", "tx", "64"],
        ["-K", device, "rxhash", "on", "ntuple", "on"],
        ["-X", device, "equal", "2"],
        ["-N", device, "flow-type", "udp4", "dst-port", "7001", "action", "0"],
        ["-A", device, "rx", "on", "tx", "on"],
        ["-s", device, "speed", "1000"],
        ["--identify", device, "1"],
        # A part: such a bus is slow, and slower where each of its signals is emulated.
        ["-m", device, "offset", "0", "length", "16"],
        ["-e", device, "offset", "0", "length", "16"],
        ["-d", device],
        ["-t", device],
        ["--reset", device, "all"],
    ]
    done: Counter[str] = Counter()
    deadline = time.monotonic() + seconds
    while True:
        for argv in settings:
            with contextlib.suppress(subprocess.TimeoutExpired):
                told = subprocess.run(["ethtool", *argv], capture_output=True, check=False, timeout=20)
                done[f"{' '.join(argv[:1] + argv[2:3])} {'refused' if told.returncode else 'done'}"] += 1
        if time.monotonic() >= deadline:
            return dict(done)


def nothing(seconds: float) -> Done:
    """A neighbour that harms nobody: it computes, and asks its own kernel now and then."""
    done = 0
    for _ in until(seconds):
        iproute.run(None, ["link show"] * BATCH)
        done += BATCH
    return {"questions": done}
