# Every target makes what it needs in .venv; `make help` lists them.
PYTHON ?= python3
WORKERS ?= 2
ARGS ?=
FUZZ_SECONDS ?= 60
FUZZ_TARGET ?=

BIN := .venv/bin
STAMP := .venv/.installed
# The tests, the demo and the benchmark use this checkout, whatever the caller's environment says.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV

.DEFAULT_GOAL := help
.PHONY: help demo test check lint types bench bench-wan flood crash-test lookup-table attack-report hops fuzz mutation
.PHONY: install-liboqs try-liboqs install-verifpal model clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 24

demo: $(STAMP) try-liboqs ## 16 real processes find each other's WireGuard endpoints (under 2 minutes)
	@$(BIN)/python examples/demo.py $(ARGS)

test: $(STAMP) ## all tests, under 10 minutes on 2 cores; ARGS='-k name' chooses
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

check: lint types test ## ruff, mypy --strict and the tests

lint: $(STAMP) ## ruff
	@$(BIN)/ruff check .

types: $(STAMP) ## mypy --strict
	@$(BIN)/mypy

# From another make, or with -C, make itself prints the directory on standard output: make -s says nothing.
bench: $(STAMP) try-liboqs ## one JSON document on standard output and nothing else
	@$(BIN)/python benchmarks/run.py $(ARGS)

bench-wan: $(STAMP) try-liboqs ## latency over a WAN of network namespaces, in round trips: JSON (needs root, ip, tun)
	@$(BIN)/python -m benchmarks.wan $(ARGS)

crash-test: $(STAMP) ## 200 times SIGKILL at a random moment of a storing node (some minutes); prints JSON
	@$(BIN)/python -m tests.live.crash --kills 200 --forked $(ARGS)

# One process a seed, so that `make -j churn` uses every core.
CHURN_SEEDS ?= 1 2 3
.PHONY: churn $(CHURN_SEEDS:%=churn-%)
churn: $(CHURN_SEEDS:%=churn-%) ## 200 nodes that come and go, an hour, a partition (20 minutes a seed); prints JSON

$(CHURN_SEEDS:%=churn-%): churn-%: $(STAMP)
	@$(BIN)/python -m tests.sim.churn --seed $* $(ARGS)

lookup-table: $(STAMP) ## what colluders at a key do to each end rule of a lookup; prints the table
	@$(BIN)/python -m tests.sim.lookup_table $(ARGS)

attack-report: $(STAMP) ## what attacks do, beside published figures: docs/attack-report.md (10 minutes; ARGS=--quick)
	@$(BIN)/python -c 'import matplotlib' 2>/dev/null \
	    || $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[lab]' >&2 \
	    || echo "note: going on without matplotlib; the plots stay as they are" >&2
	@$(BIN)/python -m lab.report $(ARGS)

hops: $(STAMP) ## intermediates of lookups by 1,000 whole nodes, against theory (half a minute)
	@$(BIN)/python -m tests.sim.hops $(ARGS)

fuzz: $(STAMP) ## every parser and state machine, FUZZ_SECONDS each (or FUZZ_TARGET=name); findings in .fuzz
	@$(BIN)/python -c 'import atheris' 2>/dev/null \
	    || $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[fuzz]' >&2
	@$(BIN)/python -m tests.fuzz.run --seconds $(FUZZ_SECONDS) $(if $(FUZZ_TARGET),--target $(FUZZ_TARGET)) $(ARGS)

mutation: $(STAMP) ## break each security check in a copy and see that a test notices
	@$(BIN)/python scripts/mutation-check $(ARGS)

flood: $(STAMP) try-liboqs ## floods against one node, its figures as JSON; about 5 minutes, 2 cores or more
	@$(BIN)/python -m benchmarks.flood $(ARGS)

install-liboqs: $(STAMP) ## build the fast crypto provider into .venv (needs cargo, cmake, a C compiler)
	@scripts/install-liboqs "$(CURDIR)/.venv"

install-verifpal: ## build the model checker into .venv (needs cargo; about 2 minutes)
	@scripts/install-verifpal

model: $(STAMP) install-verifpal ## check the models of the handshake; ARGS='name' chooses
	@$(BIN)/python models/check.py $(ARGS)

# For what runs without it too, only slower.
try-liboqs: $(STAMP)
	@scripts/install-liboqs "$(CURDIR)/.venv" >&2 || echo "note: going on without liboqs, on OpenSSL" >&2

clean: ## remove .venv and everything made
	rm -rf .venv .demo .fuzz build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks .coverage*
	find src tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# Standard output belongs to the targets (`make bench`), so what is said here goes to standard error.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "pqdht needs Python 3.11 or newer; say which: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "making .venv (once; takes about a minute)" >&2
	@$(PYTHON) -m venv .venv >&2 \
	    || { echo "python3 -m venv failed; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]' >&2
	@touch $@
