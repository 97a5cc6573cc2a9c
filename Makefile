# Every target sets up what it needs: Python 3.11, git, make, perl and a C++ compiler are all that must be there.
PYTHON ?= python3
RUN := .venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help setup test test-slow demo lint models clean

help:
	@echo "make demo       build the accelerator and run 8 real images through its RTL"
	@echo "make test       the whole default test suite"
	@echo "make test-slow  the tests that take minutes each"
	@echo "make lint       ruff and pyright"
	@echo "make models     train and quantize the shipped networks again (hours)"
	@echo "make clean      remove caches and outputs, keep .venv"

# The Python environment and the simulator, once for each change of pyproject.toml.
setup: .venv/.stamp-test

.venv/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python must be 3.11 or newer and $(PYTHON) is not: run make PYTHON=python3.11" >&2; exit 2; }
	$(PYTHON) -m venv .venv

.venv/.stamp-test: pyproject.toml rtl/flow/verilator_root.py rtl/flow/verilator_build.py | .venv/bin/pip
	@echo "setup: Python packages into .venv, then Verilator into .cache (first time: about three minutes)" >&2
	.venv/bin/pip install --quiet --disable-pip-version-check "torch==2.13.0"
	.venv/bin/pip install --quiet --disable-pip-version-check -e ".[test]"
	$(RUN) -m rtl.flow.verilator_build
	@touch $@

.venv/.stamp-dev: .venv/.stamp-test
	.venv/bin/pip install --quiet --disable-pip-version-check -e ".[dev]"
	@touch $@

# ARGS adds options, for example make test ARGS="-k xnor".
test: setup
	$(RUN) -m pytest -n 2 --dist worksteal $(ARGS)

test-slow: setup
	$(RUN) -m pytest -n 2 --dist worksteal -m slow $(ARGS)

demo: setup
	$(RUN) -m rtl.top --model deit_micro --bits 8 simulate --images 8

lint: .venv/.stamp-dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/pyright

models: setup
	$(RUN) -m model.ship

clean:
	rm -rf .cache .pytest_cache .ruff_cache
	find build -mindepth 1 ! -name README.md -delete
