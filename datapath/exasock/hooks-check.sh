#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Usage: hooks-check.sh INCLUDE HOOKS
# Members of struct proto and struct proto_ops, as declared under the kernel's INCLUDE, that no row of HOOKS
# (hooks.h) decides on: one a line, nothing when all have a row.
set -eu

# What struct $2 of the header $1 declares: comments, conditions and inner unions' members left out
members() {
	sed -n "/^struct $2 {/,/^}/p" "$1" | grep -v '^[[:space:]]*#' | sed 1d | tr '\n\t' '  ' | sed '
		s:/\*[^*]*\**\([^/*][^*]*\**\)*/: :g
		s/union *{[^}]*}/union/g
		s/}.*//' | tr ';' '\n' | sed -n '
		s/([[:space:]]*\*[[:space:]]*\([a-z_0-9]*\)[[:space:]]*)[[:space:]]*(.*/ \1/
		s/\[[^]]*\]//
		s/.*[^a-z_0-9]\([a-z_0-9]\{1,\}\)[[:space:]]*$/\1/p'
}

check() {
	found=$(members "$1" "$2")
	[ -n "$found" ] || echo "struct $2, which is not found in $1"
	for name in $found; do
		grep -q "^$3($name, " "$4" || echo "struct $2: $name"
	done
}

check "$1/net/sock.h" proto PROTO "$2"
check "$1/linux/net.h" proto_ops OPS "$2"
