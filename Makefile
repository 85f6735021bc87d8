# Two commands on a fresh machine: `make demo` and `make test`. Both create .venv and install what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed

.PHONY: help install build demo test lint bench claims gpu clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' Makefile | sed 's/:.*## /\t/' | expand -t 10

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip "setuptools>=77,<81" wheel
	# torch first and alone: the extension is built against the version that is then installed
	$(BIN)/python -m pip install --quiet "torch>=2.10,<3" "pybind11>=2.13" "ninja>=1.11"
	$(BIN)/python -m pip install --quiet --no-build-isolation -e ".[test,lint,bench]"
	touch $@

install: build  ## create .venv, install, build what can be built

build: $(READY)  ## compile the kernels; only what changed
	$(BIN)/python setup.py --quiet build_ext --inplace

demo: build  ## the whole story on the built-in motif collection
	$(BIN)/heritage-align demo --out demo-output

test: build  ## the test suite
	$(BIN)/python -m pytest -q

lint: $(READY)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: build  ## kernels against their peers on this machine
	$(BIN)/heritage-align bench

claims: build  ## what CE-CLIP, CRA, LACLIP and CL2CM claim, tested on the motif collection (two hours on one core)
	$(BIN)/python benchmarks/training/claims.py
	$(BIN)/python benchmarks/training/cl2cm_noise.py

gpu:  ## on a machine with a GPU: build against the torch it has, test, measure (no network, no .venv needed; BENCH=--quick)
	bash benchmarks/kernels/gpu.sh $(BENCH)

clean:  ## remove what was built, keep .venv
	rm -rf build *.egg-info .pytest_cache .mypy_cache .ruff_cache heritage_align/ops/*.so
