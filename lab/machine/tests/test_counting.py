"""Counting instructions: the plugin against a stand-in of QEMU, and what is told of it."""

from __future__ import annotations

import ctypes
import socket
import threading
from pathlib import Path

import pytest

from lab import native, paths
from lab.errors import LabError
from lab.machine import counting
from lab.paths import Paths

#: As much of QEMU as the plugin calls; what it registers is called by the test.
QEMU = """
#include <stddef.h>
void (*translated)(void *, void *), (*executed)(unsigned int, void *);
void *data;
size_t qemu_plugin_tb_n_insns(const void *tb) { return (size_t)tb; }
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, void (*cb)(void *, void *), void *unused)
{ (void)id; (void)unused; translated = cb; }
void qemu_plugin_register_vcpu_tb_exec_cb(void *tb, void (*cb)(unsigned int, void *), int flags, void *with)
{ (void)tb; (void)flags; executed = cb; data = with; }
void translate(size_t instructions) { translated((void *)instructions, NULL); }
void execute(unsigned int cpu) { executed(cpu, data); }
"""


@pytest.fixture(scope="module")
def qemu(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    source = tmp_path_factory.mktemp("qemu") / "qemu.c"
    source.write_text(QEMU)
    return ctypes.CDLL(str(native.shared_object("qemu.so", [source])), mode=ctypes.RTLD_GLOBAL)


@pytest.fixture
def plugin(qemu: ctypes.CDLL) -> ctypes.CDLL:
    assert qemu.translate
    return ctypes.CDLL(str(counting.plugin()))


def install(plugin: ctypes.CDLL, *words: str) -> int:
    argv = (ctypes.c_char_p * max(len(words), 1))(*(word.encode() for word in words))
    return int(plugin.qemu_plugin_install(ctypes.c_uint64(1), None, len(words), argv))


def test_plugin_is_compiled_once() -> None:
    """The second time it is there."""
    stamp = counting.plugin().stat().st_mtime_ns
    assert counting.plugin().stat().st_mtime_ns == stamp


def test_plugin_wants_its_argument(plugin: ctypes.CDLL, capfd: pytest.CaptureFixture[str]) -> None:
    """Without the socket, with another argument, with too long a path, QEMU is told why it does not start."""
    for words in ([], ["sokket=/x"], ["socket=/" + "x" * 200], ["socket=/x", "more"]):
        assert install(plugin, *words) == -1
        assert "counting.c: " in capfd.readouterr().err


def test_plugin_counts_every_processor(qemu: ctypes.CDLL, plugin: ctypes.CDLL, place: Paths) -> None:
    """Blocks that are executed, as often as they are, wherever: translating alone is not executing."""
    assert ctypes.c_int.in_dll(plugin, "qemu_plugin_version").value == 7
    assert install(plugin, f"socket={place.instructions}") == 0
    qemu.translate(ctypes.c_size_t(7))
    assert counting.executed(place) == 0
    for cpu in (0, 0, 63, 5, 0):
        qemu.execute(cpu)
    assert counting.executed(place) == 35
    qemu.translate(ctypes.c_size_t(100))
    qemu.execute(1)
    assert counting.executed(place) == 135


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(LabError, match="install gcc"):
        counting.plugin()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    monkeypatch.setattr(paths, "run_base", lambda: tmp_path)
    found = Paths("counted")
    found.run.mkdir()
    return found


@pytest.mark.parametrize("told", [b"18446744073709551615\n", b"", b"many\n"])
def test_what_is_told(place: Paths, told: bytes) -> None:
    """A number of 64 bits, or an error; never half a number."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(place.instructions))
        server.listen()

        def answer() -> None:
            one, _ = server.accept()
            with one:
                one.sendall(told)

        thread = threading.Thread(target=answer)
        thread.start()
        if told.rstrip().isdigit():
            assert counting.executed(place) == int(told)
        else:
            with pytest.raises(LabError, match="the instructions of lab counted cannot be read"):
                counting.executed(place)
        thread.join()


def test_not_counted(place: Paths) -> None:
    """A lab that does not count: how to have it count."""
    with pytest.raises(LabError) as error:
        counting.executed(place)
    assert "count_instructions = true" in str(error.value.hint)
