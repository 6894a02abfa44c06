# Everything a person types. `make help` lists it.

CONSTRAINTS := requirements/constraints.txt
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint $(CONSTRAINTS)
SOURCES := sidecar tests scripts $(wildcard bench)
CYCLES ?= 200
PROOF_MINUTES ?= 10
PROOF_SEED ?= 0
PROOF_SHARDS ?=
PROOF_WORKERS ?= 0
MUTANTS ?=
ARGS ?=

.DEFAULT_GOAL := help
.SUFFIXES:

.PHONY: help
help: ## List the targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  \033[1m%-12s\033[0m %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# --- running it

.PHONY: run
run: $(VENV)/.installed ## Start it with the example configuration and a backend that prints what it gets
	@exec $(BIN)/webhook-sidecar run --config config.example.toml --with-echo $(ARGS)

# --- working on it

.PHONY: dev
dev: $(VENV)/.installed-dev ## Set up everything to work on the code, and the tools that some tests need
	@sh scripts/install_test_tools.sh

.PHONY: test
test: $(VENV)/.installed-dev ## Run all tests with coverage; ARGS="tests/unit -k dedup" runs a part, without
	@$(BIN)/python -m pytest -q $(or $(ARGS),--cov --cov-report=term --cov-fail-under=95)

.PHONY: test-deploy
test-deploy: $(VENV)/.installed-dev ## As root on Debian: build the image, run it, and see Pods come and go
	@sh scripts/install_root_tools.sh
	@$(BIN)/python -m pytest -q -m privileged tests/privileged $(ARGS)

.PHONY: check
check: check-static check-mirrors test ## All that must hold before a change lands: format, lint, types, imports, generated files, tests

.PHONY: check-static
check-static: check-format check-lint check-types check-imports check-generated ## The same without the tests

.PHONY: check-format
check-format: $(VENV)/.installed-dev
	@$(BIN)/ruff format --check --quiet $(SOURCES) || { echo "make fmt puts this right" >&2; exit 1; }

.PHONY: check-lint
check-lint: $(VENV)/.installed-dev
	@$(BIN)/ruff check --quiet $(SOURCES)

.PHONY: check-types
check-types: $(VENV)/.installed-dev
	@$(BIN)/mypy --no-error-summary

.PHONY: check-imports
check-imports: $(VENV)/.installed-dev
	@$(BIN)/lint-imports --no-cache > $(VENV)/imports.txt || { cat $(VENV)/imports.txt >&2; exit 1; }

.PHONY: check-generated
check-generated: $(VENV)/.installed-dev
	@$(BIN)/python scripts/generate.py --check

.PHONY: check-mirrors
check-mirrors: $(VENV)/.installed-dev ## See that every pure module has all its branches covered by its own test, run alone
	@$(BIN)/python scripts/check_mirrors.py

.PHONY: fmt
fmt: $(VENV)/.installed-dev ## Format the code and mend what the linter can
	@$(BIN)/ruff check --quiet --fix-only $(SOURCES)
	@$(BIN)/ruff format --quiet $(SOURCES)

.PHONY: generate
generate: $(VENV)/.installed-dev ## Write the generated files: example configuration, schema, reference pages, state diagram
	@$(BIN)/python scripts/generate.py

.PHONY: sdks
sdks: $(VENV)/.installed-dev ## Check signing and verifying against the providers' own libraries (installs 300 MB)
	@$(PIP) --editable '.[dev,sdks]'
	@$(BIN)/python -m pytest -q tests/sdks $(ARGS)

.PHONY: crash
crash: $(VENV)/.installed-dev ## Kill it over and over and look for a lost event; CYCLES=10000 for a long run
	@CRASH_CYCLES=$(CYCLES) $(BIN)/python -m pytest -q tests/crash $(ARGS)

.PHONY: bench
bench: $(VENV)/.installed-dev ## Measure it beside its limits and budgets, ten minutes; ARGS=--quick three, ARGS=--full long, ARGS="ack idle" a part
	@$(BIN)/python -m tests.bench $(ARGS)

.PHONY: cost
cost: $(VENV)/.installed-dev ## Count what an event costs, beside the table in tests/cost/costs.py; instructions too, where valgrind is
	@$(BIN)/python -m tests.cost

.PHONY: proof
proof: $(VENV)/.installed-fuzz ## Try to break every promise for PROOF_MINUTES (10), and note it in docs/proof; PROOF_SEED, PROOF_SHARDS
	@nice -n 19 $(BIN)/python -m tests.proof.run --minutes $(PROOF_MINUTES) --seed $(PROOF_SEED) --shards "$(PROOF_SHARDS)" \
		--workers $(PROOF_WORKERS); \
		code=$$?; $(BIN)/python scripts/generate.py; exit $$code

.PHONY: mutants
mutants: $(VENV)/.installed-dev ## Change the modules that decide, and see that a test notices; MUTANTS=outbound.retry,lifecycle a part
	@nice -n 19 $(BIN)/python -m tests.mutants.run --modules "$(MUTANTS)"; \
		code=$$?; $(BIN)/python scripts/generate.py; exit $$code

.PHONY: lock
lock: $(VENV)/.installed-supply ## Write the lock files with the hashes of what a user installs (Python 3.11)
	@$(BIN)/python scripts/lock.py && $(BIN)/python scripts/generate.py

.PHONY: audit
audit: $(VENV)/.installed-supply ## Ask for known vulnerabilities in what is locked; 69 when there was no answer
	@$(BIN)/python scripts/audit.py

.PHONY: sbom
sbom: $(VENV)/.installed-dev ## Write deploy/sbom.cdx.json: what a running one consists of
	@$(BIN)/python scripts/generate.py

.PHONY: clean
clean: ## Remove the environment, caches and the data of `make run`
	rm -rf $(VENV) build dist data .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- the environment: made once, brought to the pinned versions whenever they or pyproject.toml change

$(VENV)/.installed: pyproject.toml $(CONSTRAINTS) requirements/lock.txt
	@sh scripts/make_venv.sh $(VENV)
	@$(BIN)/python -m pip --disable-pip-version-check install --quiet --require-hashes --requirement requirements/lock.txt
	@$(PIP) --no-deps --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml $(CONSTRAINTS)
	@sh scripts/make_venv.sh $(VENV)
	@$(PIP) --editable '.[dev]'
	@$(BIN)/python scripts/install_deploy_tools.py
	@touch $(VENV)/.installed $@

$(VENV)/.installed-fuzz: $(VENV)/.installed-dev
	@$(PIP) --only-binary atheris --editable '.[dev,fuzz]' || echo "without atheris; the guided search is left out" >&2
	@touch $@

$(VENV)/.installed-supply: $(VENV)/.installed-dev
	@$(PIP) --editable '.[dev,supply]'
	@touch $@
