# Two commands are all a newcomer needs: `make run` and `make test`. Both set up what they use.

PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
PIP     = $(BIN)/python -m pip --disable-pip-version-check --quiet

# What `make run` runs: a CA for trying out on this machine. Its state is below var/, so `rm -r var` begins anew.
DN         ?= CN=My Internal CA
STATE      ?= var/ca
USERS      ?= var/est-users.json
PORT       ?= 5001
HTTP_PORT  ?= 5080
# http-01 is looked for on port 5002, and on loopback, so that a client beside the CA can answer without being root.
HTTP01_PORT ?= 5002
ARGS       ?=

.PHONY: run test check lint types tests bench debian-packages npm-packages clean

run: $(VENV)/installed
	@mkdir -p var
	$(BIN)/twistd --nodaemon --pidfile= opencert --dn "$(DN)" --state-dir $(STATE) --port $(PORT) \
	  --http-port $(HTTP_PORT) --http01-port $(HTTP01_PORT) \
	  --validation-allow 127.0.0.0/8 --validation-allow ::1/128 --est-users $(USERS) $(ARGS)

test: debian-packages npm-packages $(VENV)/installed-for-tests lint types tests

check: lint types

lint: $(VENV)/installed-for-tests
	$(BIN)/ruff check opencertd twisted tests bench
	$(BIN)/ruff format --check opencertd twisted tests bench

types: $(VENV)/installed-for-tests
	$(BIN)/mypy

tests: $(VENV)/installed-for-tests
	$(BIN)/python -m pytest -q -ra

# This machine; writes tables and bench/results/*.json. ARGS are for the first; each can be run by itself.
bench: $(VENV)/installed-for-tests
	sh tests/debian-packages.sh bench/debian-packages.txt
	$(BIN)/python -m bench $(ARGS)
	$(BIN)/python -m bench.cores
	$(BIN)/python -m bench.enrolment
	$(BIN)/python -m bench.status
	$(BIN)/python -m bench.crl

# The real clients that the tests drive, and PostgreSQL; installed only where they are missing.
debian-packages:
	sh tests/debian-packages.sh tests/interop/debian-packages.txt

# acme-client, by the npm that is here or Debian's.
npm-packages: tests/interop/npm/node_modules/.package-lock.json

tests/interop/npm/node_modules/.package-lock.json: tests/interop/npm/package-lock.json
	@command -v npm >/dev/null || sh tests/debian-packages.sh tests/interop/npm/debian-packages.txt
	cd tests/interop/npm && npm ci --silent --ignore-scripts --no-audit --no-fund
	@touch $@

$(VENV)/bin/python:
	@$(PYTHON) -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "Python 3.11 or newer with its venv module is needed: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# In the compat mode of editable installs the repository is on the path, which is how twistd finds the plugin.
$(VENV)/installed: setup.cfg pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) install -c constraints.txt --config-settings editable_mode=compat -e .
	@touch $@

$(VENV)/installed-for-tests: setup.cfg pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) install -c constraints.txt --config-settings editable_mode=compat -e '.[test,hsm]'
	@touch $@ $(VENV)/installed

clean:
	rm -rf $(VENV) var build dist *.egg-info tests/interop/npm/node_modules
