"""The table of native calls (datapath/exasock/hooks.h) has a row for every member that the kernel has."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

MODULE = Path(__file__).resolve().parents[2] / "datapath/exasock"
SOCK = """
struct proto {
	void			(*close)(struct sock *sk,
					long timeout);
	/* a comment; with (*words) */
#ifdef CONFIG_BPF_SYSCALL
	int			(*brand_new)(struct sock *sk, bool (*how)(int));
#endif
	unsigned int		many[4], __percpu *orphan_count;
	union {
		struct inet_hashinfo	*hashinfo;
		struct udp_table	*udp_table;
	} h;
	char			name[32];
	u64			nobody_knows;
} __randomize_layout;
"""
NET = """
struct proto_ops {
	int		family;
	ssize_t 	(*splice_read)(struct socket *sock,  loff_t *ppos, unsigned int flags);
	int		(*brand_new)(struct socket *sock);
};
"""


def undecided(include: Path, hooks: Path = MODULE / "hooks.h") -> list[str]:
    script = ["sh", str(MODULE / "hooks-check.sh"), str(include), str(hooks)]
    return subprocess.run(script, check=True, capture_output=True, text=True).stdout.splitlines()


def kernel(tmp_path: Path, sock: str = SOCK, net: str = NET) -> Path:
    for name, text in (("net/sock.h", sock), ("linux/net.h", net)):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path


def test_a_member_without_a_row_is_named(tmp_path: Path) -> None:
    """B7: functions and data alike, in conditions and behind comments; what has a row is not named."""
    told = undecided(kernel(tmp_path))
    assert told == ["struct proto: brand_new", "struct proto: nobody_knows", "struct proto_ops: brand_new"]


def test_a_structure_that_is_not_there_is_no_success(tmp_path: Path) -> None:
    """B7: a kernel that declares them elsewhere is not one without members."""
    told = undecided(kernel(tmp_path, sock="", net=NET.replace("brand_new", "poll")))
    assert len(told) == 1 and "struct proto, which is not found" in told[0]


@pytest.mark.parametrize("row", ["PROTO(keepalive, ", "OPS(splice_read, ", "PROTO(h, "])
def test_a_row_less_is_noticed(tmp_path: Path, row: str) -> None:
    """B7: each row of the table is needed on the kernel that the images are built for."""
    headers = sorted((MODULE.parents[1] / "out/images/builder/root/usr/src").glob("linux-headers-*-common"))
    if not headers:
        pytest.skip("no builder image here: make images")
    include = headers[-1] / "include"
    assert undecided(include) == []
    table = tmp_path / "hooks.h"
    lines = (MODULE / "hooks.h").read_text(encoding="utf-8").splitlines()
    table.write_text("\n".join(line for line in lines if not line.startswith(row)), encoding="utf-8")
    name = row.split("(")[1].rstrip(", ")
    assert [one.split(": ")[1] for one in undecided(include, table)] == [name]
