#!/usr/bin/env bash
# One command for a machine with a GPU and no network: builds against the torch that is there, tests, measures.
# Needs torch, nvcc, ninja, pybind11, pytest and numpy. Results go to $OUT, or to benchmarks/results.
set -u
cd "$(dirname "$0")/../.."
exec "${PYTHON:-python3}" benchmarks/kernels/gpu.py
