"""`provoke.ko`: one mistake of each kind that a reporting kernel sees. Runs *in the guest*."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

from lab.guest.agent import in_netns

_FILE = Path("/sys/kernel/debug/provoke")
DEVICE, NETNS = "provoked", "provoked"
_leaving: list[subprocess.Popen[bytes]] = []


def load() -> None:
    """Load the module; nothing when it is."""
    subprocess.run(["modprobe", "provoke"], check=True)


def make(name: str, callers: int = 1) -> None:
    """One mistake, by so many threads at once."""
    threads = [threading.Thread(target=_FILE.write_text, args=(name,)) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def keep_device() -> None:
    """A device goes, and somebody keeps a reference to it: the command that removes it waits."""
    subprocess.run(["ip", "link", "add", DEVICE, "type", "dummy"], check=True)
    make("device")
    _leaving.append(subprocess.Popen(["ip", "link", "delete", DEVICE]))


def give_device_back() -> None:
    """What `keep_device` kept; returns when the device is gone."""
    make("give-back")
    while _leaving:
        if code := _leaving.pop().wait():
            raise RuntimeError(f"ip link delete ended with {code}")


def keep_namespace() -> None:
    """A namespace goes whose count is right, but one who held it is not signed off."""
    subprocess.run(["ip", "netns", "add", NETNS], check=True)
    with in_netns(NETNS):
        _FILE.write_text("namespace")
    subprocess.run(["ip", "netns", "delete", NETNS], check=True)
