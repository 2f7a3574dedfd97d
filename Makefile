# One word for each task; the same on every machine.
#
#   make demo        teach a small real model a handbook, then quiz it
#   make setup       the virtual environment in .venv, every package pinned by its hash
#   make check       style, types, floors, generated pages
#   make fix         whatever of that can be fixed automatically
#   make test        the tests
#   make chaos       the long campaigns: a thousand kills and flipped bits, a hundred power cuts
#   make bench       the measurements behind the claims about speed
#   make gpu         what a GPU gets right, and how fast it is: eight minutes, no network (bench/README.md)
#   make gpu-wheels  what that needs beside torch, transformers and peft, in build/gpu-wheels
#   make gpu-dry     the same on the CPU, with tiny models
#   make failures    every test with an id from docs/failures.yaml, and the page of results
#   make models      the tests of model families, and the page of what they saw
#   make docs        the generated pages: schemas, the tables of settings and words, the tree in the README
#   make lock        pin the newest compatible packages
#
# Another Python: make setup PYTHON=python3.12
# The CPU build of torch, if pip would install the CUDA one:
#   PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make setup

SHELL := bash
PYTHON ?= python3
TORCH := torch==2.13.0
COMMIT_nanoGPT := 3adf61e154c3fe3fca428ad6bc3818b27a3b8291
COMMIT_llm.c := f1e2ace651495b74ae22d45d1723443fd00ecd3a
BIN := .venv/bin
PIP := $(BIN)/python -m pip install
READY := .venv/.ready
GPU_PYTHON ?= $(PYTHON)
# A private index that lacks a package is no reason for a warning per package.
CALM := 2> >(grep -v '^WARNING: Location .* is ignored' >&2)

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore
# A process that starts reads what the first one has compiled.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo setup check fix test chaos failures models bench gpu gpu-wheels gpu-dry docs lock python

demo: setup
	@$(BIN)/headway demo

setup: $(READY)

# torch comes first, so that no other package pulls in a different build of it. What its build needs
# beyond the lock comes last: nothing for the CPU, NVIDIA's libraries for CUDA. All of it is compiled
# at the end, on all cores; some packages have files that are templates.
$(READY): requirements/lock.txt requirements/demo.txt pyproject.toml
	@$(MAKE) --no-print-directory python
	@$(PYTHON) -m venv .venv
	@echo "installing $(TORCH), the largest part"
	@$(PIP) --no-compile --no-deps "$(TORCH)" $(CALM)
	@$(PIP) --no-compile --require-hashes --no-deps -r requirements/lock.txt $(CALM)
	@$(PIP) --no-compile --require-hashes --no-deps -r requirements/demo.txt $(CALM)
	@$(PIP) --no-compile --quiet "$(TORCH)" $(CALM)
	@$(PIP) --quiet --no-deps --no-build-isolation -e . $(CALM)
	@$(BIN)/python -m compileall -qq -j 0 .venv/lib src || true
	@touch $@

python:
	@command -v $(PYTHON) >/dev/null || \
	  { echo "$(PYTHON) is not installed: make setup PYTHON=python3.11"; exit 2; } >&2
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Headway needs Python 3.11, $(PYTHON) is older: make setup PYTHON=python3.11"; exit 2; } >&2
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "$(PYTHON) lacks the venv module: install python3-venv"; exit 2; } >&2

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	$(BIN)/python docs/make_schemas.py --check
	$(BIN)/python docs/make_settings.py --check
	$(BIN)/python docs/make_words.py --check
	$(BIN)/python docs/make_stalls.py --check
	$(BIN)/python docs/make_tree.py --check
	$(BIN)/python docs/make_failures.py --check
	$(BIN)/python docs/make_models.py --check

fix: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: setup
	$(BIN)/pytest -n 2 --dist worksteal

chaos: setup
	$(BIN)/pytest -n 2 --dist worksteal -m chaos --timeout 3600

failures: setup
	$(BIN)/python docs/make_failures.py --run

models: setup
	$(BIN)/python docs/make_models.py --run

bench: build/bench/.ready build/bench-litgpt/.ready build/peers/nanoGPT build/peers/llm.c
	build/bench/bin/python bench/speed.py

# Headway with the peers that live beside it; LitGPT has an environment of its own. A peer that
# cannot be had is no reason to measure nothing: the table says that it was not measured.
build/bench/.ready: pyproject.toml
	@$(call peers,bench)

build/bench-litgpt/.ready: pyproject.toml
	@$(call peers,bench-litgpt) || echo "LitGPT cannot be had: it will not be measured"

define peers
$(MAKE) --no-print-directory python && \
$(PYTHON) -m venv build/$(1) && \
build/$(1)/bin/python -m pip install --no-deps "$(TORCH)" $(CALM) && \
build/$(1)/bin/python -m pip install -c <(echo "$(TORCH)") -e ".[$(1)]" $(CALM) && \
touch build/$(1)/.ready
endef

build/peers/%:
	@git clone --quiet https://github.com/karpathy/$* $@ && git -C $@ checkout --quiet $(COMMIT_$*) || \
	  { echo "$* cannot be had: it will not be measured"; rm -rf $@; }

# Runs without a network, with the torch, transformers and peft that are there.
gpu:
	@$(GPU_PYTHON) bench/gpu.py

gpu-wheels:
	@$(PYTHON) bench/device/wheels.py build/gpu-wheels $(GPU_VERSION)

gpu-dry: setup
	@$(BIN)/python bench/gpu.py --dry

docs: setup
	$(BIN)/python docs/make_schemas.py
	$(BIN)/python docs/make_settings.py
	$(BIN)/python docs/make_words.py
	$(BIN)/python docs/make_stalls.py
	$(BIN)/python docs/make_tree.py
	$(BIN)/python docs/make_failures.py
	$(BIN)/python docs/make_models.py

# The lock holds no torch and nothing that only a CUDA build of it wants: see `setup`.
lock: export CUSTOM_COMPILE_COMMAND := make lock
lock: python
	@$(PYTHON) -m venv build/lock
	@build/lock/bin/python -m pip install --quiet pip-tools
	@set -o pipefail; build/lock/bin/pip-compile --quiet --generate-hashes --allow-unsafe \
	  --strip-extras --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
	  --extra dev --all-build-deps --constraint <(echo "$(TORCH)") -o - pyproject.toml \
	  | awk '/^#/ { keep = NR < 7 } \
	         /^[a-z]/ { keep = !/^(torch|triton|cuda-[a-z]+|nvidia-[a-z0-9-]+)==/ } keep' \
	  > build/lock.txt
	@mv build/lock.txt requirements/lock.txt
