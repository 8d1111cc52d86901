"""Replace every NAME.ko.xz of a kernel by NAME.ko. Argument: the kernel's version."""

from __future__ import annotations

import lzma
import os
import sys
from pathlib import Path

for packed in sorted(Path("/usr/lib/modules", sys.argv[1], "kernel").rglob("*.ko.xz")):
    plain = packed.with_suffix("")
    plain.write_bytes(lzma.decompress(packed.read_bytes()))
    status = packed.stat()
    os.utime(plain, ns=(status.st_mtime_ns, status.st_mtime_ns))
    packed.unlink()
