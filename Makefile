# Every target works from a clean clone: what is missing is installed and built first.
#   make lab-up LAB=two        another lab beside the first
#   make suites LABS=4         on four labs at once
#   make test LOCKED=1         exactly the locked packages, or an error that names the stale ones
#   make lab-up PROFILE=systemd
#   make test TIER=full        everything; TIER=night adds what takes hours (docs/tiers.md)
#   make suites KERNEL=kasan   on a kernel that reports (kasan, locks, race); it is compiled on first use

LAB ?= lab
PROFILE ?= fast
TIER ?= core
export LAB PROFILE LOCKED KERNEL

PYTHON := .venv/bin/python
PYTEST := $(PYTHON) -m pytest --tier $(TIER) --junit-xml
JUNIT := out/junit
MAKE_HERE := $(MAKE) --no-print-directory
# What a tier is made of, and what only the last one has.
TEST_PARTS := lint unit image-test suites
NIGHT_PARTS := roles kernels image-verify hostile fuzz soak
ifeq ($(filter core full night,$(TIER)),)
$(error TIER=$(TIER): there are core, full and night (docs/tiers.md))
endif
# What needs root: it installs packages, makes namespaces, or runs the lab.
AS_ROOT := bootstrap lab-up lab-down lab-status lab-shell lab-check images image-verify image-test kernels lock unit \
	suites again fuzz hostile soak mutants roles bench nightly nightly-install nightly-remove nightly-status lint docs report report-test test

.DEFAULT_GOAL := help
.PHONY: help $(AS_ROOT)

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile
	@echo "variables: LAB=name (lab), LABS=1, PROFILE=fast|systemd (fast), LOCKED=1 (exactly the locked packages), TIER=core|full|night (core), KERNEL=kasan|locks|race"

ifneq ($(shell id -u),0)

# One pattern for all: say so, and do it again as root with the same variables.
KEPT := $(foreach name,LAB LABS PROFILE TIER LOCKED KERNEL ONLY FUZZ SEED SOAK ATTACK $(filter EXALAB_%,$(.VARIABLES)),$(if $($(name)),$(name)='$($(name))'))
$(AS_ROOT):
	@command -v sudo >/dev/null || { echo "error: make $@ needs root, and there is no sudo: run it as root" >&2; exit 1; }
	@echo "make $@ needs root: running it with sudo" >&2
	@sudo env $(KEPT) $(MAKE_HERE) $@

else

bootstrap: ## install missing system packages and the Python environment (all targets do it first)
	@lab/bootstrap.sh

lab-up: bootstrap ## start the lab: install, build and boot what is needed; quick when it is up
	@$(PYTHON) -m lab up

lab-down: bootstrap ## stop the lab; logs and captures stay in out/labs
	@$(PYTHON) -m lab down

lab-status: bootstrap ## show the parts of the lab, and which of them died
	@$(PYTHON) -m lab status

lab-shell: bootstrap ## open a shell in the guest
	@$(PYTHON) -m lab shell

images: bootstrap ## build the images that are missing or out of date
	@$(PYTHON) -m images build

image-verify: bootstrap ## build the images twice, differently, and compare the bytes
	@$(PYTHON) -m images verify

kernels: bootstrap ## compile the modules on the headers of Debian's other kernels: 6.1, and the newest
	@$(PYTHON) -m images kernels

lock: bootstrap ## update all locks: Python packages and images
	@lab/bootstrap.sh lock
	@$(PYTHON) -m images lock

unit: bootstrap ## run the native tests; they need no image and no lab
	@$(PYTEST) $(JUNIT)/unit.xml --record unit -m "not lab and not lint" \
		lab images datapath suites/report suites/tests

image-test: lab-up ## run the tests of the image, in the lab
	@$(PYTEST) $(JUNIT)/image.xml --record image -m lab images

# With LABS=N each worker of pytest-xdist brings up a lab of its own, and takes it down; a file's tests stay together.
ifneq ($(filter-out 1,$(LABS)),)
suites: images ## run the suites on the lab; LABS=4: on four labs at once, each with a part of them
	@$(PYTEST) $(JUNIT)/suites.xml --record suites -n $(LABS) --dist loadfile suites \
		--ignore suites/report --ignore suites/tests
else
suites: lab-up
	@$(PYTEST) $(JUNIT)/suites.xml --record suites suites --ignore suites/report --ignore suites/tests
endif

again: lab-up ## repeat the suites' last failures; a test that passes now is flaky in the report
	@$(PYTEST) $(JUNIT)/suites.again.xml --record suites --again --last-failed --last-failed-no-failures none \
		suites --ignore suites/report --ignore suites/tests || [ $$? = 5 ]

# Its seed is the time, and told; FUZZ and SEED name others.
FUZZ ?= 600
SEED := $(or $(SEED),$(shell date +%s))
fuzz: lab-up ## fuzz the shared memory and /dev/exasock for FUZZ=600 seconds, then compare random programs
	@echo "seed $(SEED)"
	@$(MAKE_HERE) -C datapath/exasock/fuzz fuzz SECONDS=$(shell expr $(FUZZ) / 4 + 1) SEED=$(SEED) OUT=$(CURDIR)/out/fuzz
	@$(PYTEST) $(JUNIT)/fuzz.xml --record fuzz --timeout 0 suites/exasock/test_fuzz.py --fuzz-seconds $(FUZZ) --first-seed $(SEED)
	@$(PYTEST) $(JUNIT)/random.xml --record random --tier full suites/exasock/test_random.py --seeds $(shell expr $(FUZZ) / 4) --first-seed $(SEED)

ATTACK ?= 60
hostile: lab-up ## run hostile tenants beside a victim, each attack for ATTACK=60 seconds
	@$(PYTEST) $(JUNIT)/hostile.xml --record hostile --timeout 0 suites/hostile --attack-seconds $(ATTACK)

# A thousand megabytes each way, and a hundred thousand connections, in each of the ways to be accelerated.
SOAK ?= 1000
soak: lab-up ## send SOAK=1000 megabytes each way by TCP under every disturbance, and open SOAK * 100 connections
	@echo "seed $(SEED)"
	@$(PYTEST) $(JUNIT)/soak.xml --record soak --tier full --timeout 0 suites/exasock/test_tcp_volumes.py suites/exasock/test_tcp_reports.py \
		-k "everything_that_can_happen or come_and_go" --first-seed $(SEED) --megabytes $(SOAK) \
		--connections $(shell expr $(SOAK) \* 100)

mutants: bootstrap ## put deliberate defects into a copy, one by one, and show which tests notice; ONLY="wire card" tries some
	@$(PYTHON) -m suites.mutants $(ONLY)

roles: lab-up ## prepare machines over SSH by Ansible, with our modules built by DKMS, and test on them
	@$(PYTEST) $(JUNIT)/roles.xml --record roles --tier full lab/remote suites/remote --roles --real-modules

bench: ## measure; print a table, write out/bench.json; ONLY="send receive" measures some
	@lab/bootstrap.sh bench
	@$(PYTHON) -m suites.bench $(if $(ONLY),--only $(ONLY))

nightly: bootstrap ## start a nightly run now: suites on the real and the emulated card, bench, report
	@$(PYTHON) -m lab.nightly run

nightly-install: bootstrap ## add a systemd timer for nightly runs, as lab/lab.toml says
	@$(PYTHON) -m lab.nightly install

nightly-remove: bootstrap ## delete the systemd timer; results stay
	@$(PYTHON) -m lab.nightly remove

nightly-status: bootstrap ## show the last nightly runs, step by step
	@$(PYTHON) -m lab.nightly status

lab-check: bootstrap ## check the lab and the cabling of every port, and draw the result
	@$(PYTHON) -m lab check

lint: images ## run every linter, and build the documentation strictly
	@$(PYTHON) -m lab.lint

docs: images ## build the documentation site in out/site, with references generated from the code
	@NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict
	@echo "out/site/index.html"

report: bootstrap ## make out/report.html from the newest run of every part, compared with earlier runs
	@$(PYTHON) -m suites.report

# Not a part of `test`: it downloads a browser, which nothing else needs.
report-test: ## test the report in a real browser; installs Chromium when it is missing
	@lab/bootstrap.sh browser
	@$(PYTEST) $(JUNIT)/browser.xml --record browser suites/report/browser/check_page.py

# All parts run, also after one failed. A lab that was down before is down afterwards.
test: images ## run lint, native tests, image tests and suites of the core tier; TIER=full: all tests; TIER=night: hours more
	@$(PYTHON) -m lab status >/dev/null 2>&1 && was_up=1 || was_up=; \
	$(PYTHON) -m lab up --renew || exit 1; \
	failed=; \
	for part in $(TEST_PARTS) $(if $(filter night,$(TIER)),$(NIGHT_PARTS)); do \
		echo "== $$part"; \
		$(MAKE_HERE) $$part || failed="$$failed $$part"; \
	done; \
	[ -n "$$was_up" ] || $(PYTHON) -m lab down; \
	$(MAKE_HERE) report || failed="$$failed report"; \
	if [ -n "$$failed" ]; then echo "failed:$$failed"; exit 1; fi; \
	echo "all of the $(TIER) tier passed; JUnit XML: $(JUNIT)/"

endif
