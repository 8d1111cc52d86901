"""Kernels that report: what they are made from names them, and what the locks and presets say."""

from __future__ import annotations

import re

import pytest

from images import definition, lock, reporting, source
from lab.errors import LabError

KERNELS = definition.load().kernels
#: What the issue asks of each, as its presets must say.
PROMISED = {
    "kasan": ("KASAN_INLINE", "KASAN_VMALLOC", "UBSAN", "DEBUG_KMEMLEAK", "FAILSLAB", "FAIL_PAGE_ALLOC"),
    "locks": (
        "PROVE_LOCKING", "PROVE_RCU", "DEBUG_ATOMIC_SLEEP", "DEBUG_OBJECTS", "NET_NS_REFCNT_TRACKER",
        "NET_DEV_REFCNT_TRACKER",
    ),
    "race": ("KCSAN",),
}  # fmt: skip


@pytest.mark.parametrize("name", PROMISED)
def test_presets_have_what_the_kernel_is_for(name: str) -> None:
    """Kernels: each is told to look for what it is there for, and says in its release which it is."""
    told = reporting.presets(KERNELS[name]).splitlines()
    assert not [one for one in PROMISED[name] if f"CONFIG_{one}=y" not in told] and set(KERNELS) == set(
        PROMISED
    )
    assert f'CONFIG_LOCALVERSION="-exalab-{name}"' in told


@pytest.mark.parametrize("name", ("common", *PROMISED))
def test_presets_are_of_one_kind(name: str) -> None:
    """Kernels: a preset is an option or a comment; no option is told twice."""
    lines = (reporting.PRESETS / f"{name}.config").read_text(encoding="utf-8").splitlines()
    odd = [line for line in lines if line and not re.fullmatch(r"#( .*)?|CONFIG_[A-Z0-9_]+=\S.*", line)]
    options = [line.partition("=")[0] for line in lines if line.startswith("CONFIG_")]
    assert odd == [] and len(options) == len(set(options))


def test_key_follows_presets_and_compiler() -> None:
    """Kernels: another preset or compiler makes another kernel; the same ones find it in the cache."""
    one = reporting.key(KERNELS["kasan"], "sha256:a")
    assert one == reporting.key(KERNELS["kasan"], "sha256:a")
    assert (
        len({one, reporting.key(KERNELS["locks"], "sha256:a"), reporting.key(KERNELS["kasan"], "sha256:b")})
        == 3
    )


def test_unknown_kernel_is_refused() -> None:
    """Kernels: a name that images.toml does not have is an error that tells those it has."""
    with pytest.raises(LabError) as caught:
        definition.kernel("kmsan")
    assert "kasan, locks, race" in str(caught.value.hint)


def test_source_is_that_of_the_duts_kernel() -> None:
    """Kernels: the locked source is that of the dut's kernel, and what compiles it is locked, too."""
    locks = {
        name: lock.read(definition.TRACKED_LOCKS / f"{name}.lock") for name in ("dut", "source", "builder")
    }
    series = definition.load().kernel_series
    assert locks["source"].version(f"linux-source-{series}") == locks["dut"].version("linux-image-amd64")
    there = {package.name for package in locks["source"].packages}
    assert set(source.COMPILE) <= there and not there & {one.name for one in locks["builder"].packages}
