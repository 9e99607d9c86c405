# Every command of the project, one target each. The first run makes .venv and installs into it.
#   make demo     the side-by-side benchmark, quick form: a table and a picture
#   make test     all tests, on the Python of .venv
#   make check    ruff, mypy strict, import-linter, and the C code with warnings as errors
#   make matrix   the torch-free tests of core and capture on every supported Python found here
#   make conformance  CPython's own generator tests, with each generator living on in its clones
#   make laws     the law of resumption on many drawn models (LAWS=100000 of them)
#                 and every combination of the laws of handlers
#   make leaks    memory and references stay flat; references need python3.11-dbg
#   make sanitize core and capture under the address and undefined-behaviour sanitizers, and valgrind
#   make fuzz     fork, resume, throw, close, trace and drop at random (SECONDS=60, SEED=1)
#   make bench    the full benchmark, with WebPPL where node and npm are there
#   make bench-merging  what merging equal states is worth, beside FlipPy, WebPPL and Pyro
#   make build    compile contpoutine._native in place (done by the others when a C file changed)
#   make clean    remove what the others made, the virtual environments last

# torch has a CPU build for 3.11 first of all; set PYTHON= to choose another.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& { echo $$p; break; }; done)
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt
INSTALLED := $(VENV)/.installed
BUILT := $(VENV)/.built
NATIVE := $(wildcard contpoutine/native/*.c contpoutine/native/*.h)
PEERS := benchmarks/node_modules/.installed
ARGS ?=
SANITIZED := build/sanitized
SANITIZE = LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" \
	ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1 PYTHONMALLOC=malloc PYTHONPATH=. $(abspath $(PY)) -X faulthandler

LAWS ?= 100000

.PHONY: demo test check bench bench-merging matrix conformance laws leaks sanitize valgrind fuzz build clean

demo: $(BUILT)
	$(PY) -m benchmarks --quick $(ARGS)

test: $(BUILT)
	$(PY) -m pytest $(ARGS)

check: $(BUILT)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports --no-logo
	CONTPOUTINE_WERROR=1 $(PY) setup.py --quiet build_ext --build-lib build/werror --build-temp build/werror

matrix:
	$(PYTHON) tests/matrix.py $(ARGS)

conformance: $(BUILT)
	$(PY) tests/conformance/run.py $(ARGS)

laws: $(BUILT)
	LAWS=$(LAWS) $(PY) -m pytest tests/capture/test_drawn.py tests/capture/test_stateful.py tests/poutine/test_laws.py $(ARGS)

leaks: $(BUILT)
	$(PY) tests/leaks/check.py $(ARGS)

fuzz: $(BUILT)
	$(PY) tests/leaks/fuzz.py $(or $(SECONDS),60) $(or $(SEED),1)

# A copy of the package with a sanitized extension: the one in place stays as fast as it is.
sanitize: $(INSTALLED)
	rm -rf $(SANITIZED) && mkdir -p $(SANITIZED)
	cp -r contpoutine tests setup.py pyproject.toml README.md LICENSE $(SANITIZED)
	rm -f $(SANITIZED)/contpoutine/_native*.so
	cd $(SANITIZED) && CONTPOUTINE_SANITIZE=1 $(abspath $(PY)) setup.py --quiet build_ext --inplace
	cd $(SANITIZED) && LAWS=100 $(SANITIZE) -m pytest -q tests/core tests/capture $(ARGS)
	cd $(SANITIZED) && $(SANITIZE) tests/leaks/fuzz.py $(or $(SECONDS),30) $(or $(SEED),1)
	@if command -v valgrind >/dev/null; then $(MAKE) --no-print-directory valgrind; \
	else echo "valgrind not found: that part is skipped"; fi

# The drawn models and the tests of a hundred thousand of something would take hours here.
valgrind: $(BUILT)
	$(PY) tests/leaks/valgrind.py $(PY) -m pytest -q -p no:cacheprovider tests/capture $(ARGS) \
		--ignore tests/capture/test_drawn.py --ignore tests/capture/test_stateful.py \
		--ignore tests/capture/test_state_key.py --ignore tests/capture/test_concurrency.py \
		-k "not drawn and not thousand and not deep and not million and not overflow"

bench: $(BUILT) $(PEERS)
	$(PY) -m benchmarks $(ARGS)

bench-merging: $(BUILT) $(PEERS)
	$(PY) -m benchmarks.merging $(ARGS)

build: $(BUILT)

$(INSTALLED): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "no Python >= 3.11 with venv found; set PYTHON="; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade setuptools
	$(PIP) --no-build-isolation -e '.[test,bench,check]'
	@touch $@

$(BUILT): $(INSTALLED) $(NATIVE) setup.py
	$(PY) setup.py --quiet build_ext --inplace
	@$(PY) -c "import contpoutine; print(contpoutine.capabilities())"
	@touch $@

# A machine without node still has every other system: the benchmark says what is missing.
$(PEERS): benchmarks/package.json
	@if command -v npm >/dev/null; then \
		npm install --prefix benchmarks --no-package-lock --no-audit --no-fund --loglevel=error && touch $@; \
	else echo "npm not found: the benchmark runs without WebPPL"; fi

clean:
	rm -rf build dist *.egg-info contpoutine/_native*.so benchmarks/out benchmarks/node_modules
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find contpoutine tests benchmarks -name __pycache__ -prune -exec rm -rf {} +
	rm -rf .venv .venv-3.*
