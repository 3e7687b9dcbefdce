# Everything that is run by hand or by CI. `make` lists it.

ARGS ?=
# A file's tests share their gateways, so files are what is spread, the long ones first as they come; each worker has a PostgreSQL
# of its own.
PYTEST_ARGS ?= -q -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
BIN := .venv/bin
# What `make lock` resolves with; every lock has the same versions as locks/dev.txt.
UV := uv==0.13.*

.DEFAULT_GOAL := help
.PHONY: help demo test check schema permissions bench graphiql lock clean installed lint types imports locks-check schema-check permissions-check schema-lint

help: ## this list; `make demo ARGS="--scale 2"` hands options on, `make test PYTEST_ARGS="-k page"` too
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## install what is missing, then run the gateway over sandboxes and an embedded PostgreSQL
	@deploy/venv.sh demo && exec $(BIN)/gateway demo $(ARGS)

test: ## every test
	@deploy/venv.sh dev && exec $(BIN)/pytest $(PYTEST_ARGS)

check: lint types imports locks-check schema-check permissions-check schema-lint ## all that needs no server: style, types, imports, schema, locks

schema: ## write schema.graphql from the code
	@deploy/venv.sh dev && exec $(BIN)/gateway schema --write

permissions: ## write the matrix of docs/permissions.md from the code
	@deploy/venv.sh dev && exec $(BIN)/gateway permissions --write

bench: ## measure against the same work written by hand
	@deploy/venv.sh dev && exec $(BIN)/python -m tests.benchmarks $(ARGS)

graphiql: ## build the developer's page again (needs Node 20.19+)
	@command -v npm >/dev/null || { echo 'make graphiql: npm is missing: install Node.js 20.19 or newer'; exit 1; }
	cd gateway/graphiql && npm ci && npm run build

lock: ## resolve pyproject.toml into locks/ again: ARGS=--upgrade takes newer versions
	@deploy/lock.sh '$(UV)' $(ARGS)

clean: ## remove the virtual environment, caches and the demo's database
	rm -rf .venv .demo .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	rm -rf tests/schema/node_modules tests/identity/node_modules tests/streams/node_modules gateway/graphiql/node_modules
	find gateway resolvers permissions sources tests -name __pycache__ -prune -exec rm -rf {} +

# What `make check` is made of; `make -k check` goes on after a failure.

installed:
	@deploy/venv.sh dev

lint: installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: installed
	$(BIN)/mypy

imports: installed
	$(BIN)/lint-imports

locks-check: installed
	$(BIN)/python deploy/locks.py

schema-check: installed
	$(BIN)/gateway schema --check

permissions-check: installed
	$(BIN)/gateway permissions --check

schema-lint:
	@if command -v npm >/dev/null; \
	then $(MAKE) --no-print-directory tests/schema/node_modules/.package-lock.json && npm --prefix tests/schema --loglevel=error --silent run lint; \
	else echo 'schema lint skipped: node is not installed'; fi

tests/schema/node_modules/.package-lock.json: tests/schema/package-lock.json
	npm --prefix tests/schema --loglevel=error --no-audit --no-fund ci
	@touch $@

# The OpenID Connect provider that the tests of signing in run; they ask for it themselves.
tests/identity/node_modules/.package-lock.json: tests/identity/package-lock.json
	npm --prefix tests/identity --loglevel=error --no-audit --no-fund ci
	@touch $@

# The clients of subscriptions that portals use; only tests talk to them.
tests/streams/node_modules/.package-lock.json: tests/streams/package-lock.json
	npm --prefix tests/streams --loglevel=error --no-audit --no-fund ci
	@touch $@
