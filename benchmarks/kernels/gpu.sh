#!/usr/bin/env bash
# One command for a machine with a GPU and no network: builds against the torch that is there, tests, measures.
# Needs torch, pytest and numpy; to build also nvcc and ninja. Results go to $OUT, or to benchmarks/results.
# Arguments go to the benchmark: --quick measures the goals alone. HERITAGE_ALIGN_COMMIT names the state of a tree
# that is no git checkout.
set -u
cd "$(dirname "$0")/../.."
exec "${PYTHON:-python3}" benchmarks/kernels/gpu.py "$@"
