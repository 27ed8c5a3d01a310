# Everything sets itself up in .venv; nothing needs to be installed by hand but Python 3.11 or newer and make.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
# Four at once, on two cores too: many tests wait for servers. Those of a module stay together, since they share some.
PYTEST = $(BIN)/python -m pytest -n 4 --dist loadscope

.PHONY: demo test test-fast lint format bench soak clean

demo: .venv/.demo  ## see it work: make demo ARGS="--for 30s"
	@$(BIN)/tidegate demo $(ARGS)

test: .venv/.dev servers  ## the whole suite
	@$(PYTEST) $(ARGS)

test-fast: .venv/.dev  ## what takes a few seconds at most
	@$(PYTEST) -m "not slow" $(ARGS)

lint: .venv/.dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

format: .venv/.dev
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: .venv/.bench servers  ## Tidegate beside its rivals on this machine: make bench ARGS=--quick
	@$(BIN)/python -m tests.benchmarks.bench $(ARGS)

soak: .venv/.dev servers  ## random faults and the balance: make soak ARGS="--for 10m --seed 7"
	@$(BIN)/python -m tests.faults.soak $(ARGS)

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# What the tests need and is in no wheel, as command:package; without one the tests that need it say that they were skipped.
SERVERS = mosquitto:mosquitto redis-server:redis-server prometheus:prometheus chromium:chromium systemd-analyze:systemd
.PHONY: servers
servers:
	@missing=; for pair in $(SERVERS); do \
	  command -v $${pair%:*} >/dev/null || test -x /usr/sbin/$${pair%:*} || missing="$$missing $${pair#*:}"; \
	done; \
	test -z "$$missing" || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "installing$$missing for the tests"; \
	    apt-get -qq update && RUNLEVEL=1 SYSTEMD_OFFLINE=1 DEBIAN_FRONTEND=noninteractive \
	      apt-get -qq install -y --no-install-recommends $$missing >/dev/null; \
	  else \
	    echo "not installed:$$missing; some tests will be skipped (apt install$$missing)"; \
	  fi; }

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Tidegate needs Python 3.11 or newer")'
	@$(PYTHON) -m venv .venv

.venv/.demo: .venv/bin/python pyproject.toml
	@echo "installing Tidegate into .venv (once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[embedded,uvloop]'
	@touch $@

.venv/.dev: .venv/bin/python pyproject.toml
	@echo "installing Tidegate and its tools into .venv (once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@ .venv/.demo

.venv/.bench: .venv/bin/python pyproject.toml
	@echo "installing Tidegate, its tools and its rivals into .venv (once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,bench]'
	@touch $@ .venv/.dev .venv/.demo
