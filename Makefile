# make run     an edge, an app, an agent and a visitor: a tunnel shown working (ONCE=1: once, then exit)
# make test    every test (ARGS='tests/wire -k mux' for some of them)
# make check   formatting, lint, types, the floor plan; seconds
# make bench   the benchmark tables (ARGS='--quick' for a short run)
# make docs    reprint the reference pages that are printed from code
# make clean   forget the environment and every cache
#
# Each makes its own environment in .venv and needs python3 (3.11 or newer), make and a package registry.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
ARGS ?=
ONCE ?=

# What the tests and the benchmark put around Wellhead: program[:Debian package].
TEST_PROGRAMS := chromium certutil:libnss3-tools curl openssl nginx:nginx-light ip:iproute2 tc:iproute2 nft:nftables systemd-analyze:systemd \
	update-ca-certificates:ca-certificates unshare:util-linux litmus git docker-registry skopeo sslscan slowhttptest \
	nghttp:nghttp2-client h2load:nghttp2-client wget hey http:httpie node:nodejs npm \
	pebble pebble-challtestsrv:pebble named:bind9 sudo debootstrap mkfs.ext4:e2fsprogs tmux
BENCH_PROGRAMS := wrk h2load:nghttp2-client nginx:nginx-light ssh:openssh-client sshd:openssh-server node:nodejs npm

.PHONY: help run test check bench docs clean programs
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

help:
	@sed -n '/^$$/q; s/^# \{0,1\}//p' Makefile

run: $(VENV)/run.stamp
	@$(BIN)/wellhead demo $(if $(filter-out 0 no false,$(ONCE)),--once)

test: $(VENV)/test.stamp programs
	@$(BIN)/python -m $(if $(strip $(ARGS)),pytest $(ARGS),tests)

check: $(VENV)/test.stamp
	@$(BIN)/ruff format --check --quiet . || { echo "run: $(BIN)/ruff format ."; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/python -m pytest -q --no-header tests/test_layers.py

bench: $(VENV)/test.stamp
	@.ci/programs $(BENCH_PROGRAMS)
	@$(BIN)/python -m bench $(ARGS)

docs: $(VENV)/run.stamp
	@$(BIN)/python docs/printed.py

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

# Without them the tests that need one are skipped here, and fail in CI.
programs:
	@.ci/programs $(TEST_PROGRAMS) || [ "$(CI)" != true ]

$(BIN)/python:
	@[ -n "$(PYTHON)" ] || { echo "error: python3 3.11 or newer is needed"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || .ci/programs python3-venv
	@$(PYTHON) -m venv $(VENV)

$(VENV)/run.stamp: requirements/runtime.txt pyproject.toml | $(BIN)/python
	@echo "preparing $(VENV) (a minute, once)"
	@$(PIP) -r requirements/runtime.txt
	@$(PIP) --no-deps --editable .
	@touch $@

$(VENV)/test.stamp: requirements/test.txt requirements/system.txt requirements/suites.txt $(VENV)/run.stamp
	@echo "preparing $(VENV) for tests (a minute, once)"
	@$(PIP) -r requirements/system.txt
	@rm -rf $(VENV)/suites
	@$(subst install,download,$(PIP)) --no-deps --dest $(VENV)/suites -r requirements/suites.txt
	@touch $@
