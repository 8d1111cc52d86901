#!/bin/bash
# Makes a machine ready for the bench: the system packages that are missing, and a Python environment (.venv) with
# exactly what requirements.lock names. Does nothing, quickly, when both are there.
#
#   lab/bootstrap.sh          make ready
#   lab/bootstrap.sh bench    and for measuring, which needs more
#   lab/bootstrap.sh lock     resolve requirements.in anew into requirements.lock
#   lab/bootstrap.sh browser  and a Chromium, for the tests of the report
#
# Interrupted at any moment it can be run again: the stamp that says "done" is written last.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."

# package:what of it the bench uses; a file where a command does not tell
NEEDED=(
	mmdebstrap:mmdebstrap
	bubblewrap:bwrap
	uidmap:newuidmap
	debian-archive-keyring:/usr/share/keyrings/debian-archive-keyring.gpg
	python3:/usr/bin/python3
	python3-venv:/usr/bin/python3
	gcc:gcc
	libc6-dev:/usr/include/stdio.h
	openssh-client:ssh
	iproute2:ip
	cpio:cpio
	ca-certificates:/etc/ssl/certs/ca-certificates.crt
	git:git
	make:make
	util-linux:setpriv
)
# What `make bench` needs besides
MEASURING=(
	valgrind:valgrind
)
# For `make report-test` alone.
BROWSER=(
	chromium:chromium
	fonts-dejavu-core:/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf
)
PYTHON=/usr/bin/python3
STAMP=.venv/.exalab-stamp
LOG=out/bootstrap.log

say() { printf '%s\n' "$*" >&2; }

die() { # message, remedy
	say "error: $1"
	[ -z "${2-}" ] || say "  → $2"
	exit 1
}

names() { # of the packages in the arguments, one line
	printf '%s\n' "${@%%:*}" | sort -u | paste -sd' '
}

# What tells one finished environment from another.
fingerprint() {
	{
		sha256sum requirements.lock lab/bootstrap.sh
		cat /etc/os-release
		"$PYTHON" -c 'import sys; print(sys.version)' 2>/dev/null || :
	} | sha256sum | cut -d' ' -f1
}

ready() {
	[ -f "$STAMP" ] && [ -x .venv/bin/python ] && [ "$(cat "$STAMP")" = "$(fingerprint)" ]
}

# Runs a step with its time; its output goes to the log, the end of which is shown when it fails.
step() { # title, command…
	local title=$1 started=$SECONDS
	shift
	say "… $title"
	if ! "$@" >>"$LOG" 2>&1 </dev/null; then
		tail -n 25 "$LOG" >&2
		die "$title failed" "all of its output: $LOG"
	fi
	say "✓ $title  $((SECONDS - started)) s"
}

system_packages() { # entries as in NEEDED
	local id='' version='' entry missing=()
	# shellcheck source=/dev/null
	id=$(. /etc/os-release && echo "${ID-}")
	# shellcheck source=/dev/null
	version=$(. /etc/os-release && echo "${VERSION_ID-}")
	if [ "$id" = debian ] && { [ -z "$version" ] || [ "${version%%.*}" -ge 12 ]; }; then
		for entry in "$@"; do
			if ! dpkg-query --show --showformat='${db:Status-Status}' "${entry%%:*}" 2>/dev/null |
				grep -qx installed; then
				missing+=("$entry")
			fi
		done
		[ ${#missing[@]} -gt 0 ] || return 0
		[ "$(id -u)" = 0 ] ||
			die "missing packages: $(names "${missing[@]}")" "run as root, or with sudo: sudo lab/bootstrap.sh"
		export DEBIAN_FRONTEND=noninteractive
		# An earlier run that was interrupted in the middle of dpkg leaves it asking for this.
		step "finishing earlier installations" dpkg --configure -a
		step "reading the package lists" apt-get --quiet update
		# shellcheck disable=SC2046 # one word per package
		step "installing $(names "${missing[@]}")" \
			apt-get --quiet --yes --no-install-recommends install $(names "${missing[@]}")
		return 0
	fi
	for entry in "$@"; do
		command -v "${entry#*:}" >/dev/null || [ -e "${entry#*:}" ] || missing+=("$entry")
	done
	[ ${#missing[@]} -eq 0 ] ||
		die "this is not Debian 12 or newer, and these are missing (names of Debian's packages): $(names "${missing[@]}")" \
			"install what they are called here and run it again, or use Debian 12 or 13; all that is needed: $(names "$@")"
}

python_environment() {
	"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
		die "$PYTHON is older than 3.11" "Debian 12 and 13 have a newer one"
	rm -f "$STAMP"
	step "making the Python environment .venv" "$PYTHON" -m venv --clear .venv
	step "installing Python packages from requirements.lock" \
		.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-input \
		--require-hashes --no-deps --requirement requirements.lock
	fingerprint >"$STAMP.new"
	mv "$STAMP.new" "$STAMP"
}

resolve() {
	.venv/bin/python -m piptools compile --quiet --upgrade --generate-hashes --allow-unsafe --strip-extras \
		--no-header --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options \
		--output-file requirements.lock requirements.in
}

mkdir -p out
exec 9>out/bootstrap.lock
flock 9
if ! ready; then
	: >"$LOG"
	system_packages "${NEEDED[@]}"
	python_environment
fi
case "${1-}" in
'') ;;
bench) system_packages "${MEASURING[@]}" ;;
browser) system_packages "${BROWSER[@]}" ;;
lock)
	: >"$LOG"
	step "resolving requirements.in" resolve
	ready || python_environment
	;;
*) die "unknown argument $1" "lab/bootstrap.sh, or with bench, browser or lock" ;;
esac
