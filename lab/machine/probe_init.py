"""The smallest first process there is: it tells QEMU that the guest's user space runs.

Built here as bytes, so that probing an accelerator needs neither a compiler nor an image: an ELF header, one
program header and 22 bytes of code, packed as an initramfs.
"""

from __future__ import annotations

import struct

from lab.machine.command import PROBE_PORT, PROBE_VALUE

_BASE = 0x400000
_IOPL = 172  # system call, arch/x86/entry/syscalls/syscall_64.tbl


def init_elf() -> bytes:
    """A static x86-64 program: ``iopl(3)``, ``outb(PROBE_VALUE, PROBE_PORT)``, then loop."""
    code = b"".join(
        (
            b"\xb8" + struct.pack("<I", _IOPL),  # mov eax, iopl
            b"\xbf" + struct.pack("<I", 3),  # mov edi, 3
            b"\x0f\x05",  # syscall
            b"\x66\xba" + struct.pack("<H", PROBE_PORT),  # mov dx, port
            b"\xb0" + struct.pack("<B", PROBE_VALUE),  # mov al, value
            b"\xee",  # out dx, al
            b"\xeb\xfe",  # jmp to itself
        )
    )
    headers = 64 + 56
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    elf = ident + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, _BASE + headers, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    size = headers + len(code)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)
    return elf + segment + code


def _entry(name: str, mode: int, data: bytes) -> bytes:
    """One file of a "newc" cpio archive (Documentation/driver-api/early-userspace/buffer-format.rst)."""
    title = name.encode() + b"\0"
    fields = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(title), 0)
    head = b"070701" + b"".join(b"%08X" % value for value in fields) + title
    head += bytes(-len(head) % 4)
    return head + data + bytes(-len(data) % 4)


def initramfs() -> bytes:
    """The archive with that program as ``/init``."""
    return _entry("init", 0o100755, init_elf()) + _entry("TRAILER!!!", 0, b"")
