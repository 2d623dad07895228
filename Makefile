# `make` prints what there is. Two commands on a fresh machine: `make demo` (Python only) and `make test`.
# The first that runs: a version manager's shim may be there for a Python that is not.
ifndef PYTHON
PYTHON := $(shell for one in python3 python3.13 python3.12 python3.11 python3.14; do \
	$$one -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && command -v $$one && break; done)
endif
ARGS ?=
BIN := .venv/bin
WHEEL := .venv-wheel/bin
PIP := -m pip install -q --disable-pip-version-check --retries 5
# With ARGS="-k name" one of the two runs of `make test` may find nothing that fits (exit 5): no failure then.
SOME := $(if $(ARGS),|| test $$? -eq 5)
UNIT := $(filter-out tests/integration/ tests/faults/ tests/__pycache__/,$(sort $(wildcard tests/*/))) $(sort $(wildcard tests/test_*.py))

.PHONY: help demo test check unit integration faults wheel bench peers story up parts schema requirements clean
.DELETE_ON_ERROR:

help: ## what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | while IFS="$$(printf '\t')" read -r name what; \
		do printf '  make %-14s %s\n' "$$name" "$$what"; done

demo: .venv/.demo ## the whole way in under 90 s, no server needed: drift, alert, trigger, recovery
	@$(BIN)/tripline demo $(ARGS)

test: .venv/.dev parts wheel check ## everything CI runs: lint, types, all tests on the built wheel, real Kafka and Alertmanager
	@TRIPLINE_TESTS_ON=wheel $(WHEEL)/pytest -n auto --dist worksteal --doctest-modules --pyargs schemas detectors streamer $(UNIT) $(ARGS) $(SOME)
	@TRIPLINE_TESTS_ON=wheel $(WHEEL)/pytest tests/integration tests/faults $(ARGS) $(SOME)

check: .venv/.dev ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/mypy

unit: .venv/.dev ## tests that need nothing but Python, on the sources
	@$(BIN)/pytest -q -n auto --dist worksteal --doctest-modules schemas detectors streamer $(UNIT) $(ARGS)

integration: .venv/.dev parts ## tests against real parts, on the sources; ARGS="--kafka 3.9" for the older Kafka
	@$(BIN)/pytest tests/integration $(ARGS)

faults: .venv/.dev parts ## a storm of 200 faults over real parts, under an hour; ARGS="--seed 2 --faults 50 --kafka 3.9 --slots 1 --partitions 16"
	@$(BIN)/python -m tests.faults.running $(ARGS)

bench: .venv/.dev parts ## throughput of a whole worker over real Kafka; ARGS=--quick
	@$(BIN)/tripline bench throughput $(ARGS)

peers: .venv-peers/requirements.txt .venv-naive/naive.txt ## the competitors of the detectors' benchmarks, in environments of their own

story: .venv/.demo ## one scenario as a timeline: make story FILE=tests/scenarios/NAME.yaml
	@$(BIN)/tripline story $(or $(FILE),$(error FILE=tests/scenarios/NAME.yaml, one of: $(wildcard tests/scenarios/*.yaml))) $(ARGS)

up: .venv/.dev parts ## a real Kafka and Alertmanager on this machine, until Ctrl-C
	@$(BIN)/python tests/integration/brokers.py

parts: ## fetch Kafka's jars (Maven) and install Alertmanager and promtool (apt, as root), where they are lacking
	@$(PYTHON) tests/integration/parts.py

wheel: .venv/.dev .venv-wheel/.dev ## build the wheel and install it where the tests run
	@rm -rf dist
	@$(BIN)/python -m pip wheel -q --disable-pip-version-check --no-deps --no-build-isolation -w dist .
	@$(WHEEL)/python $(PIP) --no-deps --force-reinstall dist/*.whl

schema: .venv/.dev ## write the JSON Schemas and the AsyncAPI document anew from the types
	@$(BIN)/tripline schema export

requirements: ## pin anew what pyproject.toml asks for (needs uv); no addresses get into the files
	@uv lock -q --upgrade
	@uv export -q --frozen --no-emit-project --no-header --no-annotate --no-dev --group build > requirements/base.txt
	@uv export -q --frozen --no-emit-project --no-header --no-annotate --all-groups > requirements/dev.txt
	@uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		loadtest/peers/requirements.in -o loadtest/peers/requirements.txt
	@uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		loadtest/peers/naive.in -o loadtest/peers/naive.txt

clean: ## remove what make made (not .parts)
	@rm -rf .venv .venv-wheel .venv-peers .venv-naive dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis

.venv/pyvenv.cfg:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed; say which: make PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' || { echo "venv is needed (Debian: apt-get install python3-venv)" >&2; exit 1; }
	@$(PYTHON) -m venv .venv

.venv/.demo: .venv/pyvenv.cfg requirements/base.txt pyproject.toml
	@echo "installing into .venv"
	@$(BIN)/python $(PIP) --require-hashes -r requirements/base.txt
	@$(BIN)/python $(PIP) --no-deps --no-build-isolation -e .
	@touch $@

.venv/.dev: .venv/pyvenv.cfg requirements/dev.txt pyproject.toml
	@echo "installing into .venv, with what the tests need"
	@$(BIN)/python $(PIP) --require-hashes -r requirements/dev.txt
	@$(BIN)/python $(PIP) --no-deps --no-build-isolation -e .
	@touch $@ .venv/.demo

# The copy says which pins are installed: `tripline bench detect` makes the same where it lacks.
.venv-peers/requirements.txt: loadtest/peers/requirements.txt
	@echo "installing into .venv-peers"
	@$(PYTHON) -m venv .venv-peers
	@.venv-peers/bin/python $(PIP) --no-deps --require-hashes -r $<
	@cp $< $@

.venv-naive/naive.txt: loadtest/peers/naive.txt
	@echo "installing into .venv-naive"
	@$(PYTHON) -m venv .venv-naive
	@.venv-naive/bin/python $(PIP) --no-deps --require-hashes -r $<
	@cp $< $@

.venv-wheel/.dev: requirements/dev.txt
	@echo "installing into .venv-wheel"
	@$(PYTHON) -m venv .venv-wheel
	@$(WHEEL)/python $(PIP) --require-hashes -r requirements/dev.txt
	@touch $@
