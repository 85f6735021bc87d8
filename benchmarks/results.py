"""What each file in benchmarks/results is of, which are older than what they measure, and how to run them again.

    python benchmarks/results.py                # a table: file, commit, what changed since in what it measures
    python benchmarks/results.py --run          # run again, in order, what this machine can and what is older
    python benchmarks/results.py --run kernels-cpu.json search.json

A result whose command needs a GPU, or data that is not in the repository, is named and left as it is.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"

CPU_KERNELS = ("csrc/*.h", "csrc/cpu", "csrc/epilogue", "heritage_align/ops")
CUDA_KERNELS = ("csrc/*.h", "csrc/cuda", "csrc/epilogue", "heritage_align/ops")
SHIPPED = "plugins/heritage_align_plugins/cn_clip/weights"
"""The weights of motif-small, on which recalls rest."""
ENCODERS = ("heritage_align/encoding", "plugins/heritage_align_plugins/cn_clip")
KEYPOINTS = tuple(f"plugins/heritage_align_plugins/sift/{name}.py" for name in ("keypoints", "matching", "chance"))
SCORES = (
    *CPU_KERNELS,
    *ENCODERS,
    "plugins/heritage_align_plugins/similarities",
    "heritage_align/evaluation/metrics.py",
)
CONTRASTIVE = (
    "heritage_align/training/loop.py",
    "plugins/heritage_align_plugins/contrastive",
    "plugins/heritage_align_plugins/cn_clip",
)
ALIGNMENT = ("heritage_align/training/loop.py", "plugins/heritage_align_plugins/alignment")


@dataclass(frozen=True)
class Result:
    """How a file came about.

    Attributes:
        command: of this repository's root, after ``python``; empty for what is kept as it was found.
        measures: paths of the code that the numbers are of.
        minutes: what it takes on two cores.
        missing: what the command needs and a checkout on a usual machine lacks.
        one_thread: torch works with one thread (OMP_NUM_THREADS).
    """

    command: str
    measures: tuple[str, ...]
    minutes: int = 0
    missing: str = ""
    one_thread: bool = False


FIRST_GPU = Result("", (), missing="kept: what a GPU first showed of an earlier state")
SMALL = Result("", ALIGNMENT, missing="a data set with region features (docs/small-collections.md)")
RESULTS_OF = {
    "kernels-cpu.json": Result("benchmarks/kernels/run.py", CPU_KERNELS, 4, one_thread=True),
    "query-cpu.json": Result(
        "benchmarks/pipeline/query.py --rounds 30",
        ("heritage_align/search", "heritage_align/store", "heritage_align/ops", "csrc/cpu"),
        5,
    ),
    "ray.json": Result(
        "benchmarks/pipeline/ray_executor.py",
        ("plugins/heritage_align_plugins/ray_executor", "heritage_align/shards.py"),
        4,
        one_thread=True,
    ),
    "search.json": Result(
        "benchmarks/pipeline/search.py", ("plugins/heritage_align_plugins/exact_index", "heritage_align/store"), 8
    ),
    "scale.json": Result(
        "benchmarks/pipeline/scale.py --folder scale-stores",
        ("heritage_align/store", "heritage_align/search", "plugins/heritage_align_plugins/exact_index"),
        60,
    ),
    "index-backends.json": Result(
        "benchmarks/pipeline/index_backends.py --pictures 10000 --part 4000 --artworks 30 --queries 60 --timed 9",
        (
            "heritage_align/search/first_stage.py",
            "plugins/heritage_align_plugins/faiss_index",
            "plugins/heritage_align_plugins/qdrant_index",
            "plugins/heritage_align_plugins/exact_index",
            SHIPPED,
        ),
        10,
        one_thread=True,
    ),
    "characters.json": Result(
        "benchmarks/pipeline/characters.py",
        ("heritage_align/text/characters.py", "plugins/heritage_align_plugins/cn_clip"),
        1,
    ),
    "details.json": Result(
        "benchmarks/pipeline/details.py",
        (
            "heritage_align/search/details.py",
            "heritage_align/search/regions.py",
            "heritage_align/data/motifs",
            *ENCODERS,
            "plugins/heritage_align_plugins/crops",
            "plugins/heritage_align_plugins/grids",
            *KEYPOINTS,
        ),
        12,
        one_thread=True,
    ),
    "detail-photographs.json": Result(
        "benchmarks/pipeline/detail_photographs.py ../shared/data/getty_mosaics/images ../shared/data/howtocook/images",
        ("heritage_align/search/details.py", "heritage_align/search/regions.py", *ENCODERS, *KEYPOINTS),
        30,
        one_thread=True,
    ),
    "calibration.json": Result(
        "benchmarks/pipeline/calibration.py",
        ("heritage_align/search/relevance.py", "heritage_align/search/calibrate.py", *SCORES),
        2,
        one_thread=True,
    ),
    "encode.json": Result(
        "benchmarks/pipeline/encode.py --batch 8 --files 8 --pictures 1 --every 20 --threads 1", ENCODERS, 12
    ),
    "library-speed.json": Result(
        "benchmarks/pipeline/library_speed.py",
        (
            "heritage_align/encoding",
            *(
                f"plugins/heritage_align_plugins/{name}"
                for name in ("cn_clip", "transformers", "fg_clip", "open_clip", "sentence_transformers")
            ),
        ),
        13,
        one_thread=True,
    ),
    "roi.json": Result(
        "benchmarks/pipeline/roi.py",
        (*ENCODERS, "plugins/heritage_align_plugins/fg_clip", "plugins/heritage_align_plugins/similarities"),
        8,
        one_thread=True,
    ),
    "sift.json": Result(
        "benchmarks/pipeline/sift.py --artworks 3 --real ../shared/data --every 20 --rounds 4",
        ("plugins/heritage_align_plugins/sift", "heritage_align/encoding/stage.py"),
        6,
        one_thread=True,
    ),
    "laclip.json": Result(
        "benchmarks/pipeline/laclip.py", (*ENCODERS, "plugins/heritage_align_plugins/similarities"), 20, one_thread=True
    ),
    "laclip-ablation.json": Result(
        "benchmarks/pipeline/laclip_ablation.py",
        (*ENCODERS, "plugins/heritage_align_plugins/similarities", "plugins/heritage_align_plugins/crops"),
        40,
        one_thread=True,
    ),
    "alignment.json": Result("benchmarks/alignment/speed.py", (*ALIGNMENT, *CPU_KERNELS), 10),
    "training-step-cpu.json": Result(
        "benchmarks/training/step.py --model motif-small --batch 32 --threads 1", CONTRASTIVE, 10
    ),
    "training-step-vit-b-16-cpu.json": Result(
        "benchmarks/training/step.py --model ViT-B-16 --batch 4 --rounds 4 --threads 1 "
        "--output benchmarks/results/training-step-vit-b-16-cpu.json",
        CONTRASTIVE,
        20,
    ),
    "service.json": Result(
        "benchmarks/service/load.py",
        ("heritage_align/service", "heritage_align/search/searcher.py"),
        4,
        one_thread=True,
    ),
    "demo-motifs.json": Result("", SCORES, missing="metrics.json of `make demo`, copied"),
    "motif-table4.json": Result("benchmarks/alignment/motif_table.py", (*ALIGNMENT, SHIPPED), 60),
    "motif-variants.json": Result(
        "benchmarks/alignment/motif_variants.py",
        (
            *ALIGNMENT,
            "plugins/heritage_align_plugins/fragments",
            "plugins/heritage_align_plugins/augmented",
            "plugins/heritage_align_plugins/encoded",
            SHIPPED,
        ),
        25,
        one_thread=True,
    ),
    "claims.json": Result("benchmarks/training/claims.py", CONTRASTIVE, 90),
    "cl2cm-noise.json": Result(
        "benchmarks/training/cl2cm_noise.py",
        ("plugins/heritage_align_plugins/cl2cm", "heritage_align/training", SHIPPED),
        60,
    ),
    "howtocook-dishes.json": Result("", ALIGNMENT, missing="a data set with region features (docs/training.md)"),
    "small-collection.json": SMALL,
    "small-collection-folds.json": SMALL,
    "small-ideas.json": SMALL,
    "small-recipes.json": SMALL,
    "warm-starts.json": SMALL,
    "small-recipes-motifs.json": Result(
        "benchmarks/alignment/split_table.py --motifs 120 --folds 3 --seeds 3 --work motif-runs "
        "--out benchmarks/results/small-recipes-motifs.json "
        "--systems cca scan=scan:train.model.text=[bag] bfan=bfan:train.model.text=[bag] "
        "scan-gb=scan-gb:train.model.text=[bag] bfan-sf-gb=bfan-sf-gb:train.model.text=[bag] scan-gb-small "
        "--level scan bfan scan-gb bfan-sf-gb scan-gb-small",
        (*ALIGNMENT, SHIPPED),
        3,
        one_thread=True,
    ),
    "kernels-h100-25310bc.json": Result("benchmarks/kernels/run.py --device cuda", CUDA_KERNELS, missing="an H100"),
    "kernels-focal-variants.json": Result("", ("csrc/cuda/hopper_focal.cu",), missing="an H100 and an H200"),
    "region-contrast-h100.json": Result("", CONTRASTIVE, missing="an H100"),
    "longer-training.json": Result(
        "benchmarks/training/trained_on.py", CONTRASTIVE, missing="runs of examples/train_motif_encoder/crops.yaml"
    ),
    "query-h100.json": Result(
        "benchmarks/pipeline/query.py --device cuda",
        ("heritage_align/search", "plugins/heritage_align_plugins/exact_index"),
        missing="an H100",
    ),
    "query-h100-90822e5.json": FIRST_GPU,
    "encode-h100.json": Result("benchmarks/pipeline/encode.py --device cuda --goals", ENCODERS, missing="an H100"),
    "encode-h100-a76652a.json": FIRST_GPU,
    "kernels-h100-a76652a.json": FIRST_GPU,
    "kernels-h100-a76652a-hopper.json": FIRST_GPU,
    "kernels-h100-a76652a-sm80.json": FIRST_GPU,
    "kernels-h100-prototype.json": FIRST_GPU,
    "kernels-h200-prototype.json": FIRST_GPU,
}


def commit_of(file: str) -> str:
    """Return the commit that a result was measured at, without git's mark of a tree with changes."""
    return str(json.loads((RESULTS / file).read_text(encoding="utf-8"))["commit"]).removesuffix("-dirty")


def changes_since(file: str) -> list[str]:
    """Return the commits since a result, oldest first, that changed what it measures: hash and subject.

    Raises:
        LookupError: git knows no such commit, or there is no git here.
    """
    result, commit = RESULTS_OF[file], commit_of(file)
    if not result.measures:
        return []
    command = ["git", "-C", str(ROOT), "log", "--reverse", "--format=%h %s", f"{commit}..HEAD", "--", *result.measures]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise LookupError(f"{file}: commit {commit}: {getattr(error, 'stderr', None) or error}") from error
    return done.stdout.splitlines()


def main() -> int:
    """Print the table, or run what is asked for; exit status 1 if a command failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", nargs="*", metavar="FILE", help="results to measure again; without names, the older")
    given = parser.parse_args()
    if given.run is None:
        for file in RESULTS_OF:
            since = changes_since(file)
            state = f"{len(since)} changes since, the last: {since[-1]}" if since else "is of this code"
            print(f"{file:<34}{commit_of(file):<10}{state[:90]}")
        return 0
    unknown = [file for file in given.run if file not in RESULTS_OF]
    if unknown:
        parser.error(f"no result {unknown[0]!r}; there are {', '.join(RESULTS_OF)}")
    worst = 0
    for file in given.run or [file for file in RESULTS_OF if changes_since(file)]:
        result = RESULTS_OF[file]
        if result.missing:
            print(f"== {file}: left as it is, it needs {result.missing}", flush=True)
            continue
        print(f"== {file}: python {result.command} (about {result.minutes} minutes)", flush=True)
        environment = {**os.environ, "OMP_NUM_THREADS": "1"} if result.one_thread else None
        command = [sys.executable, *result.command.split()]
        worst = worst or subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
    return worst


if __name__ == "__main__":
    sys.exit(main())
