# make demo: set up, then serve a working runtime and its page on http://127.0.0.1:4000/
# make test: set up, then run the whole suite, and a quick part of it with another Python, if one is found.
# make test-all: set up and run the whole suite with every supported Python that is found; a version
# that is not found is named.
# make quick: set up, then run that quick part, which takes about a minute.
# make bench: set up, then measure our runtime beside the reference; see docs/performance.md.
# make walk: set up, then count the calls that four requests take; see benchmarks/walk.py.
# make e2e: set up, then try all that pages do in a browser; a table of it is in tests/e2e/results.
# make fuzz: set up, then look for inputs that break what is promised; see tests/fuzz.
# make soak: set up, then load one server for some minutes; fails when anything is lost or grows.
# make kills: set up, then kill servers, at random moments of a load and behind each event of a
# conversation; fails when anything is lost.
# make frameworks: set up, then try the programs of docs/examples/agents, each with its framework.
# make mutants: set up, then plant bugs in a copy, each of which some test has to notice.
# All work on a fresh machine with python3 and npm.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PAGE := tests/e2e/dist/index.html
NPM := tests/clients/node_modules/.installed tests/differential/node_modules/.installed

# What is compiled is kept, whatever the environment says, because the tests start hundreds of processes.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-all other-python quick lint format types core conformance others browser e2e fuzz bench walk soak kills frameworks mutants clean

demo: $(VENV)/.installed
	$(BIN)/sansio-copilot demo --port $(or $(PORT),4000)

# Two at a time, and the installations that they need as well, since most tests of servers wait for
# them; each tells what it has to when it ends. Those that take longest are the first, and the last is
# one that has several processes.
test:
	$(MAKE) --no-print-directory -j2 $(if $(filter output-sync,$(.FEATURES)),-Otarget) \
		lint conformance core types browser $(OTHER) others
OTHER := other-python

# Each version is looked for on the path and among pyenv's, and has an environment of its own, so that
# no version sees what is installed for another.
PYTHONS := 3.11 3.12 3.13 3.14
FIND := find_python() { \
	for python in python$$1 "$$HOME"/.pyenv/versions/$$1.*/bin/python; do \
		if "$$python" -c 'import ensurepip' 2> /dev/null; then echo "$$python"; break; fi; \
	done; }
test-all:
	@$(FIND); for version in $(PYTHONS); do \
		python="$$(find_python $$version)"; \
		if [ -n "$$python" ]; then \
			echo "Python $$version: $$python"; \
			$(MAKE) test OTHER= PYTHON="$$python" VENV=.venv-$$version || exit 1; \
		else \
			echo "Python $$version is not found: nothing is tried with it."; \
		fi; \
	done

# The newest other version stands for all of them, because `make test` has to stay short.
other-python: $(VENV)/.installed
	@$(FIND); other=; own="$$($(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')"; \
	for version in $(PYTHONS); do \
		python="$$([ $$version = $$own ] || find_python $$version)"; \
		if [ -n "$$python" ]; then newest="$$version"; other="$$python"; fi; \
	done; \
	if [ -z "$$other" ]; then \
		echo "No supported Python other than $$own is found: nothing is tried with another one."; \
	else \
		echo "A quick part with Python $$newest: $$other"; \
		$(MAKE) --no-print-directory quick PYTHON="$$other" VENV=.venv-$$newest; \
	fi

# These tests are chosen because they meet what differs between versions of Python: event loops and their
# tasks (with and without uvloop), threads, contexts, the closing of generators, signals, sockets and
# sqlite3. The tests of the whole core are left out, because they take as long as those of its packages.
# The servers are one for each binding; uvicorn has uvloop, and hypercorn_asyncio has not.
BINDINGS_THAT_DIFFER := asgi asyncio embedding net serving sockets testing trio wsgi
SERVERS_THAT_DIFFER := asyncio_server trio sockets gunicorn uvicorn hypercorn_asyncio
BEHAVIOUR_THAT_DIFFERS := agents contexts hooks life runs streams
quick: $(VENV)/.installed
	$(BIN)/python -m pytest -n 2 tests/core --ignore-glob 'tests/core/test_*.py' \
		$(BINDINGS_THAT_DIFFER:%=tests/bindings/%) tests/bindings/stores/test_sqlite.py
	$(BIN)/python -m pytest -n 2 $(BEHAVIOUR_THAT_DIFFERS:%=tests/conformance/test_%.py) \
		$(SERVERS_THAT_DIFFER:%=--server %)

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/.installed
	$(BIN)/mypy

# The core alone and without sockets or an event loop, because its coverage has to be whole.
core: $(VENV)/.installed
	$(BIN)/coverage run -m pytest tests/core
	$(BIN)/coverage report

# CONFORMANCE=--everywhere tries what a binding decides with every server, and what takes long with each.
conformance: $(VENV)/.installed
	$(BIN)/python -m pytest tests/conformance -n 4 $(CONFORMANCE)

others: $(VENV)/.installed $(NPM) tests/agui/.old/.installed
	$(BIN)/python -m pytest tests --ignore tests/core --ignore tests/conformance --ignore tests/e2e -n 3

# The core of what pages do in a browser, against one binding.
browser: $(VENV)/.installed $(PAGE)
	$(BIN)/python -m pytest tests/e2e

# All of it, against two bindings and beside the reference runtime.
e2e: $(VENV)/.installed $(PAGE) tests/differential/node_modules/.installed
	E2E=all $(BIN)/python -m pytest tests/e2e

# SECONDS=600 TARGET=sse, say; the seconds are for all targets together. Where atheris cannot be
# installed the targets are run without it.
SECONDS := 60
fuzz: $(VENV)/.installed tests/clients/node_modules/.installed
	$(BIN)/python -c 'import atheris' 2> /dev/null || $(BIN)/pip install --quiet --group fuzz || true
	PYTHONPATH=tests $(BIN)/python -m fuzz.run $(TARGET) --seconds $(SECONDS)

# BENCH="--quick", say, or names of sections.
bench: $(VENV)/.installed benchmarks/node_modules/.installed
	$(BIN)/python benchmarks/run.py $(BENCH)

# WALK=--calls tells each function.
walk: $(VENV)/.installed
	$(BIN)/python benchmarks/walk.py $(WALK)

# MINUTES=10 BINDING=asyncio (or trio, sockets, asgi, wsgi) STORE=memory (or sqlite, postgres, redis,
# whose server is killed now and then); SEED repeats the choices of another.
soak: $(VENV)/.installed
	PYTHONPATH=tests $(BIN)/python -m soak --minutes $(or $(MINUTES),10) \
		--binding $(or $(BINDING),asyncio) --store $(or $(STORE),memory) \
		$(if $(SEED),--seed $(SEED))

# TIMES=50 STORE=sqlite (or postgres, redis); SEED repeats the choices of another. The kills at random
# moments are followed by kills behind each event of a conversation, twice in each.
kills: $(VENV)/.installed tests/clients/node_modules/.installed
	PYTHONPATH=tests $(BIN)/python -m bindings.stores.kills --times $(or $(TIMES),50) \
		--store $(or $(STORE),sqlite) $(if $(SEED),--seed $(SEED))
	PYTHONPATH=tests $(BIN)/python -m clients.killed_conversations --store $(or $(STORE),sqlite)

# FRAMEWORKS="agno_agent langgraph_agent", say. Each is installed anew, which takes minutes.
frameworks: $(VENV)/.installed tests/clients/node_modules/.installed
	PYTHONPATH=tests $(BIN)/python -m frameworks $(FRAMEWORKS)

# MUTANTS="swap-two-events", say; see tests/mutations/mutants.py.
mutants: $(VENV)/.installed
	PYTHONPATH=tests $(BIN)/python -m mutations $(MUTANTS)

# Modules are compiled when they are first imported, because most of them never are: pip takes a third of
# the processor time.
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-compile --upgrade 'pip>=25.1'
	$(BIN)/pip install --quiet --no-compile --editable '.[asyncio,sockets,trio,asgi,wsgi,http,model,otel,postgres,redis]' --group dev
	touch $@

# The oldest release of AG-UI's models that will do; the newest is installed with everything else.
tests/agui/.old/.installed: pyproject.toml $(VENV)/.installed
	$(BIN)/pip install --quiet --no-compile --no-deps --upgrade --target tests/agui/.old \
		"$$(sed -n 's/.*"\(ag-ui-protocol\)>=\([0-9.]*\),.*/\1==\2/p' pyproject.toml)"
	touch $@

tests/%/node_modules/.installed: tests/%/package.json
	cd tests/$* && npm install --no-audit --no-fund --no-package-lock --prefer-offline --loglevel=error
	touch $@

$(PAGE): tests/e2e/node_modules/.installed tests/e2e/vite.config.mjs $(wildcard tests/e2e/page/*)
	cd tests/e2e && npx vite build --logLevel warn

benchmarks/node_modules/.installed: benchmarks/package.json
	cd benchmarks && npm install --no-audit --no-fund --no-package-lock --loglevel=error
	touch $@

clean:
	rm -rf .venv .venv-3.* tests/*/node_modules tests/e2e/dist tests/agui/.old benchmarks/node_modules .mypy_cache .ruff_cache .pytest_cache .coverage
