# Two commands on a fresh machine: `make demo` and `make test`. Both create .venv and install what they need, no more.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet
READY := $(VENV)/.installed
TESTS_READY := $(VENV)/.installed-tests
RELEASE_READY := $(VENV)/.installed-release

.PHONY: help install build demo test api lint bench results claims gpu wheels matrix clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' Makefile | sed 's/:.*## /\t/' | expand -t 10

$(READY): pyproject.toml
	@echo "== $(VENV): downloading and unpacking PyTorch (up to 3 GB, 6 GB on the disk). This takes minutes and pip says nothing."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) --upgrade pip "setuptools>=77,<81"
	@# torch first: the kernels are built against the version that is then installed
	@$(PIP) "torch>=2.10,<3" "ninja>=1.11"
	@echo "== heritage_align: installing its other libraries, compiling its kernels (a minute; six where there is nvcc)"
	@$(PIP) --no-build-isolation -e .
	@touch $@

$(TESTS_READY): $(READY)
	@echo "== installing the tests' tools and the optional libraries"
	@$(PIP) --no-build-isolation -e ".[test,lint]"
	@touch $@

$(RELEASE_READY): $(TESTS_READY)
	@echo "== installing the tools that make and try wheels"
	@$(PIP) --no-build-isolation -e ".[release]"
	@touch $@

install: build  ## create .venv, install, build what can be built

build: $(READY)  ## compile the kernels; only what changed
	$(BIN)/python setup.py --quiet build_ext --inplace

demo: build  ## the whole story on the built-in motif collection
	$(BIN)/heritage-align demo --out demo-output

test: build $(TESTS_READY)  ## the test suite
	$(BIN)/python -m pytest -q

api: build  ## docs/api.md from the docstrings of the public modules
	$(BIN)/python docs/generate_api.py

lint: $(TESTS_READY)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: build  ## kernels against their peers on this machine
	$(BIN)/heritage-align bench

results: build $(TESTS_READY)  ## measure again what is older than its code, as far as this machine can (hours; see benchmarks/results.py)
	$(BIN)/python benchmarks/results.py --run

claims: build $(TESTS_READY)  ## what CE-CLIP, CRA, LACLIP and CL2CM claim, tested on the motif collection (two hours on one core)
	$(BIN)/python benchmarks/training/claims.py
	$(BIN)/python benchmarks/training/cl2cm_noise.py

gpu:  ## on a machine with a GPU: build against the torch it has, test, measure (no network, no .venv needed; BENCH=--quick)
	bash benchmarks/kernels/gpu.sh $(BENCH)

wheels: $(RELEASE_READY)  ## sdist and manylinux wheel with the kernels of CPU and CUDA, in wheelhouse/ (needs nvcc)
	rm -rf build/dist wheelhouse
	HERITAGE_ALIGN_BUILD=cuda $(BIN)/python -m build --no-isolation --outdir build/dist
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/auditwheel repair --exclude 'libtorch*.so' --wheel-dir wheelhouse build/dist/*.whl
	cp build/dist/*.tar.gz wheelhouse/
	ls -l wheelhouse

matrix: $(RELEASE_READY)  ## one wheel on Python 3.10 to 3.13 with the newest libraries, and with the oldest (downloads 8 GB; see noxfile.py)
	rm -rf build/matrix
	HERITAGE_ALIGN_BUILD=cpu $(BIN)/python -m build --no-isolation --outdir build/matrix
	PYENV_VERSION="$$(pyenv versions --bare 2>/dev/null | paste -sd:)" PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/nox $(NOX)

clean:  ## remove what was built, keep .venv
	rm -rf build wheelhouse .nox *.egg-info .pytest_cache .mypy_cache .ruff_cache heritage_align/ops/*.so
