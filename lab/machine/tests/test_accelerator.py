"""Believing in KVM only when a kernel boots with it. Stand-ins for QEMU play each way it can go."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lab import paths
from lab.errors import LabError
from lab.machine import accelerator, command
from lab.machine.accelerator import Images, find, verdict
from lab.machine.probe_init import init_elf, initramfs

FAKE = Path(paths.ROOT, "lab/tests/fake_machine.py")
IMAGES = Images(Path("/nowhere"), Path("/nowhere/vmlinux"), "digests")


@pytest.fixture
def kvm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A /dev/kvm that can be opened, and a cache of its own."""
    monkeypatch.setattr(paths, "out", lambda: tmp_path / "out")
    monkeypatch.delenv(accelerator.CHOICE, raising=False)
    (tmp_path / "kvm").touch()
    return tmp_path / "kvm"


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., list[int]]:
    """Put a program in QEMU's place; returns a list that grows by one entry per boot."""
    boots: list[int] = []

    def install(*argv: str) -> list[int]:
        def in_place_of_qemu(tools: Path, qemu: list[str], binds: object) -> list[str]:
            boots.append(1)
            fd = next(word.split("fd=")[1] for word in qemu if "fd=" in word)
            return [word.replace("{qmp}", fd) for word in argv]

        monkeypatch.setattr(accelerator, "tools_argv", in_place_of_qemu)
        return boots

    return install


def fake_qemu(tmp: Path, status: str) -> list[str]:
    argv = [sys.executable, str(FAKE), "--qmp", "{qmp}", "--status", status]
    return [*argv, "--agent", str(tmp / "a"), "--serial-log", str(tmp / "s")]


def test_success_is_a_guest_that_ran(kvm: Path, play: Callable[..., list[int]]) -> None:
    """The one exit status that only the guest's user space can cause."""
    boots = play("sh", "-c", f"exit {command.PROBE_PASSED}")
    assert find(IMAGES, 2, kvm=kvm).name == "kvm"
    assert find(IMAGES, 2, "kvm", kvm=kvm).name == "kvm"
    assert boots == [1], "the answer is kept"
    find(IMAGES, 1, kvm=kvm)
    assert boots == [1, 1], "another number of CPUs is another question"
    find(Images(IMAGES.tools, IMAGES.kernel, "other digests"), 1, kvm=kvm)
    assert boots == [1, 1, 1], "and so is another kernel or QEMU"


def test_internal_error(kvm: Path, play: Callable[..., list[int]], tmp_path: Path) -> None:
    """A machine that QEMU stopped will never end by itself."""
    play(*fake_qemu(tmp_path, "internal-error"))
    found = find(IMAGES, 2, kvm=kvm)
    assert found.name == "tcg"
    assert "internal-error" in found.reason


def test_hang(
    kvm: Path, play: Callable[..., list[int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Silence is an answer, after a while."""
    monkeypatch.setattr(accelerator, "PROBE_SECONDS", 1.0)
    monkeypatch.setattr(accelerator, "SILENT_SECONDS", 0.5)
    play(*fake_qemu(tmp_path, "running"))
    assert "hangs" in find(IMAGES, 2, kvm=kvm).reason


def test_qemu_refuses(kvm: Path, play: Callable[..., list[int]]) -> None:
    """QEMU's own words are the reason."""
    play("sh", "-c", "echo 'failed to initialize kvm: Permission denied' >&2; exit 1")
    assert "Permission denied" in find(IMAGES, 2, kvm=kvm).reason


def test_no_kvm_at_all(kvm: Path, play: Callable[..., list[int]]) -> None:
    """Nothing is booted to find out what a look tells."""
    boots = play("true")
    assert "there is no" in find(IMAGES, 2, kvm=kvm.with_name("none")).reason
    assert not boots


def test_what_was_asked_for(
    kvm: Path, play: Callable[..., list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """TCG without asking KVM; KVM or an error; the environment has the last word."""
    boots = play("false")
    assert find(IMAGES, 2, "tcg", kvm=kvm).reason == "asked for"
    assert not boots
    with pytest.raises(LabError, match="KVM does not work here"):
        find(IMAGES, 2, "kvm", kvm=kvm)
    monkeypatch.setenv(accelerator.CHOICE, "tcg")
    assert find(IMAGES, 2, "kvm", kvm=kvm).name == "tcg"
    monkeypatch.setenv(accelerator.CHOICE, "xen")
    with pytest.raises(LabError, match="no accelerator 'xen'"):
        find(IMAGES, 2, kvm=kvm)


def test_damaged_cache(kvm: Path, play: Callable[..., list[int]]) -> None:
    """A cache that is not ours is no cache."""
    boots = play("sh", "-c", f"exit {command.PROBE_PASSED}")
    cache = paths.out() / "accelerator.json"
    cache.parent.mkdir()
    for text in ("", "[]", '{"key": 3}', "\x00"):
        cache.write_text(text)
        assert find(IMAGES, 2, kvm=kvm).name == "kvm"
    assert len(boots) == 4


def test_verdicts() -> None:
    """The end of the probe's QEMU in words."""
    assert verdict(command.PROBE_PASSED, "", "") is None
    assert "panics" in (verdict(0, "[1.0] Kernel panic - not syncing: x", "") or "")
    assert (
        verdict(1, "", "qemu: warning: x\nqemu: no such device")
        == "QEMU ends with status 1 (qemu: no such device)"
    )


def test_init_is_a_valid_program() -> None:
    """ELF header, one loadable segment that covers the file, entry at its code."""
    elf = init_elf()
    kind, machine, _, entry, at = struct.unpack_from("<HHIQQ", elf, 16)
    assert (elf[:4], kind, machine, at) == (b"\x7fELF", 2, 62, 64)
    _, flags, offset, vaddr, _, filesz, memsz, _ = struct.unpack_from("<IIQQQQQQ", elf, 64)
    assert (flags, offset, filesz, memsz) == (5, 0, len(elf), len(elf))
    assert elf[entry - vaddr] == 0xB8
    archive = initramfs()
    assert archive.startswith(b"070701") and len(archive) % 4 == 0 and b"TRAILER!!!" in archive
