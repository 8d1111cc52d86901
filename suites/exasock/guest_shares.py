"""Tenants that attach as many sockets as they get, as users of their own. Runs *in the guest*."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import resource
import socket
import struct
from typing import Any

from lab.guest.agent import in_netns
from suites.guest import exasock, probes

Json = dict[str, Any]
_tenants: dict[str, tuple[int, int]] = {}


def _drop_capabilities() -> None:
    """All of them: capset() with version 3 and nothing effective."""
    library = ctypes.CDLL(None, use_errno=True)
    header, data = struct.pack("=Ii", 0x20080522, 0), bytes(24)
    if library.capset(header, data):
        raise OSError(ctypes.get_errno(), "capset")


def _attach(most: int) -> Json:
    """Attach until it is refused; what is attached stays so while this process lives."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
    fd = os.open(exasock.DEVICE, os.O_RDWR | os.O_CLOEXEC)
    kept = []
    for number in range(most):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            request = bytearray(struct.pack(exasock.ATTACH_FORMAT, sock.fileno(), 0, 0))
            fcntl.ioctl(fd, exasock.ATTACH, request, True)
        except OSError as error:
            return {"attached": number, "errno": errno.errorcode[error.errno or 0]}
        kept.append(sock.detach())
    return {"attached": most, "errno": None}


def attach(name: str, netns: str, uid: int, most: int, host: bool = True) -> Json:
    """A process of user ``uid`` in ``netns``: {"attached", "errno"}. It lives on. Of uid 0 it may do all that
    the host may, or (not ``host``) what a container's may that has no user namespace of its own."""
    told_to, told = os.pipe()
    waits, ends = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(ends)
            with in_netns(netns):
                os.setgroups([])
                os.setresgid(uid, uid, uid)
                if not host:
                    _drop_capabilities()
                os.setresuid(uid, uid, uid)
                os.write(told, json.dumps(_attach(most)).encode() + b"\n")
                os.read(waits, 1)
        finally:
            os._exit(0)
    os.close(told)
    os.close(waits)
    _tenants[name] = (child, ends)
    with os.fdopen(told_to, "rb") as stream:
        return dict(json.loads(stream.readline()))


def refused(netns: str, times: int) -> Json:
    """Attach a socket of a namespace ``times`` times: what is said, and how often RTNL was taken."""
    said = set()
    fd = os.open(exasock.DEVICE, os.O_RDWR | os.O_CLOEXEC)
    with in_netns(netns):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    request = struct.pack(exasock.ATTACH_FORMAT, sock.fileno(), 0, 0)
    probes.start("rtnl_lock", everybody=False)
    for _ in range(times):
        try:
            fcntl.ioctl(fd, exasock.ATTACH, request)
            said.add("attached")
        except OSError as error:
            said.add(errno.errorcode[error.errno or 0])
    taken = probes.stop("rtnl_lock")
    sock.close()
    os.close(fd)
    return {"said": sorted(said), "rtnl": taken}


def names() -> list[str]:
    return list(_tenants)


def end(name: str) -> None:
    child, ends = _tenants.pop(name)
    os.write(ends, b"x")  # later ones have a copy of this end
    os.close(ends)
    os.waitpid(child, 0)
