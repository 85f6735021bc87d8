"""Every stored result says what it is of and at which commit, and what is older than its code is told."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
results = SimpleNamespace(**runpy.run_path(str(ROOT / "benchmarks" / "results.py")))


def document(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / name).read_text(encoding="utf-8"))
    return found


def test_every_result_is_listed_and_names_its_commit() -> None:
    assert {path.name for path in RESULTS.glob("*.json")} == set(results.RESULTS_OF)
    for name, result in results.RESULTS_OF.items():
        assert re.fullmatch(r"[0-9a-f]{7,12}(-dirty)?", document(name)["commit"]), name
        assert result.command or result.missing, name
        script = result.command.split(" ")[0]
        assert not script or (ROOT / script).exists(), name
        for path in result.measures:
            assert list(ROOT.glob(path)), f"{name}: measures {path}, which is not there"


def test_what_is_older_than_its_code_is_said() -> None:
    try:
        since = {name: results.changes_since(name) for name in results.RESULTS_OF}
    except LookupError as error:
        pytest.skip(f"no history here: {error}")
    older = [f"{name} ({len(found)} changes)" for name, found in since.items() if found]
    if older:
        said = f"results older than what they measure (python benchmarks/results.py says by what): {', '.join(older)}"
        warnings.warn(said, UserWarning, stacklevel=1)


def test_a_change_of_what_is_measured_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        command = ["git", *identity, "-C", str(tmp_path), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def commit(file: str, subject: str) -> str:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(subject)
        git("add", ".")
        git("commit", "-qm", subject)
        return git("rev-parse", "--short", "HEAD")

    git("init", "-q")
    first = commit("code/kernel.c", "a kernel")
    (tmp_path / "r.json").write_text(json.dumps({"commit": f"{first}-dirty"}))
    (tmp_path / "lost.json").write_text(json.dumps({"commit": "0123abc"}))
    commit("docs/page.md", "a page")
    functions = results.changes_since.__globals__
    monkeypatch.setitem(functions, "ROOT", tmp_path)
    monkeypatch.setitem(functions, "RESULTS", tmp_path)
    entry = results.Result("", ("code",), missing="x")
    monkeypatch.setitem(functions, "RESULTS_OF", {"r.json": entry, "lost.json": entry})
    assert results.changes_since("r.json") == []
    changed = commit("code/kernel.c", "a faster kernel")
    assert results.changes_since("r.json") == [f"{changed} a faster kernel"]
    with pytest.raises(LookupError, match=r"lost\.json: commit 0123abc"):
        results.changes_since("lost.json")


def p50(name: str, case: str, dtype: str, contender: str, mode: str = "graph") -> float:
    """Milliseconds of a row of the kernels' benchmark."""
    rows = [
        row
        for row in document(name)["rows"]
        if (row["case"], row["dtype"], row["contender"], row.get("mode", mode)) == (case, dtype, contender, mode)
    ]
    assert len(rows) == 1, (case, dtype, contender, mode)
    return float(rows[0]["p50"]) * 1e3


GPU = "kernels-h100-25310bc.json"
CPU = "kernels-cpu.json"


def ratio(case: str, dtype: str, other: str) -> float:
    return p50(CPU, case, dtype, "ours") / p50(CPU, case, dtype, other)


def stage(name: str, case: str, stage: str) -> float:
    return float(document(name)["cases"][case]["stages"][stage]["p50"]) * 1e3


def ablated(part: str, system: str) -> dict[str, Any]:
    """A row of LACLIP's ablation."""
    (row,) = (row for row in document("laclip-ablation.json")["parts"][part]["systems"] if row["system"] == system)
    return dict(row)


def of_encoder(encoder: str, system: str) -> dict[str, Any]:
    """A row of the ablation's encoders."""
    found = document("laclip-ablation.json")["parts"]["encoders"]["encoders"][encoder]["systems"]
    (row,) = (row for row in found if row["system"] == system)
    return dict(row)


def variant(name: str) -> list[Callable[[], float]]:
    """What a page says of a variant on the motif folds: gains over its baseline, of fragments and whole pictures."""

    def gain(what: str, way: str) -> float:
        test = document("motif-variants.json")["tests"][name][what][way]["mean_recall"]
        return abs(float(test["difference"]))

    return [lambda: gain("fragments", "i2t"), lambda: gain("fragments", "t2i"), lambda: gain("pictures", "t2i")]


def laclip(part: str, system: str) -> list[Callable[[], float]]:
    """What a page says of a row: T2I R@1 and R@5, I2T R@1, and the gains over global."""
    return [
        lambda: ablated(part, system)["t2i"]["R@1"]["mean"],
        lambda: ablated(part, system)["t2i"]["R@5"]["mean"],
        lambda: ablated(part, system)["i2t"]["R@1"]["mean"],
        lambda: abs(ablated(part, system)["against_global"]["t2i"]["mean_recall"]["difference"]),
        lambda: abs(ablated(part, system)["against_global"]["i2t"]["mean_recall"]["difference"]),
    ]


def served(clients: int) -> list[Callable[[], float]]:
    """What a page says of a number of clients: throughput, p50 and p99, with batches and without."""

    def of(name: str, key: str) -> float:
        found = document("service.json")["closed_loop"][f"{name}, {clients} clients"]["200"][key]
        return float(found) * (1 if key == "per_second" else 1e3)

    keys = ("per_second", "p50", "p99")
    return [lambda name=name, key=key: of(name, key) for name in ("batching", "one by one") for key in keys]  # type: ignore[misc]


def one_client(key: str) -> float:
    return float(document("service.json")["one_client"][key]) * 1e3


TEXT = "laclip by text"
COLPALI, QUERIES = "MaxSim, 1 x 1000 x 1024 x 1024 x 128", "MaxSim, 64 x 1000 x 32 x 180 x 128"


def sift(case: str, key: str) -> float:
    return float(document("sift.json")["results"][case][key]["p50"])


def pooled(encoder: str) -> list[Callable[[], float]]:
    """What a page says of 36 regions over the picture alone: roi with its spread, crops."""

    def over(way: str, share: str) -> float:
        return float(document("roi.json")["cost"][encoder]["over_the_whole_picture"][way][share])

    return [*(lambda share=share: over("roi", share) for share in ("p50", "p20", "p80")), lambda: over("crops", "p50")]  # type: ignore[misc]


def beside_the_library(name: str) -> list[Callable[[], float]]:
    """What a page says of a component: its own rate, the library's, and the ratio with its spread."""

    def found() -> dict[str, Any]:
        return dict(document("library-speed.json")["components"][name])

    return [
        *(lambda who=who: float(found()["pictures_a_second"][who]["p50"]) for who in ("ours", "library")),  # type: ignore[misc]
        *(lambda share=share: float(found()["ratio"][share]) for share in ("p50", "p20", "p80")),  # type: ignore[misc]
    ]


def described(way: str, system: str) -> list[Callable[[], float]]:
    """What a page says of a way to describe regions: mean recall and R@1, Chinese and English."""

    def share(language: str, key: str) -> float:
        return float(document("roi.json")["recall"]["ways"][way]["systems"][system][language][key])

    places = [(language, key) for language in ("zh", "en") for key in ("mean_recall", "t2i_r1")]
    return [lambda place=place: share(*place) for place in places]  # type: ignore[misc]


def detail(system: str) -> list[Callable[[], float]]:
    """What a page says of a row of the search by details: R@1 and p for the motif, and for it in the same colour."""

    def of(kind: str, key: str) -> float:
        return float(document("details.json")["results"][kind]["systems"][system][key])

    return [lambda k=k, key=key: of(k, key) for k in ("same motif", "same colour") for key in ("R@1", "p")]  # type: ignore[misc]


def photographed(system: str) -> list[Callable[[], float]]:
    """What a page says of details of photographs: R@1 by the size of the detail."""
    found = document("detail-photographs.json")["results"]
    return [lambda side=side: float(found[side]["systems"][system]["R@1"]) for side in ("0.15", "0.3", "0.5")]  # type: ignore[misc]


def accidents(least: str) -> list[float]:
    return [100 * row["accidents"][least] for row in document("detail-photographs.json")["results"].values()]


def asked_with(language: str, weight: str) -> float:
    return float(document("details.json")["results"]["with a text"][language][weight])


def handed_on(kind: str) -> list[Callable[[], float]]:
    found = document("details.json")["results"]["first stage"][kind]
    return [lambda depth=depth: float(found[depth]) for depth in ("10", "20", "50", "100")]  # type: ignore[misc]


def relevance(recipe: str, queries: str) -> list[Callable[[], float]]:
    """What a page says of a recipe by captions, percent: recall, precision and kept at 0.5 and at 0.95."""

    def share(bound: str, key: str) -> float:
        rows = document("calibration.json")["results"][recipe]["rows"]
        (row,) = (row for row in rows if (row["queries"], row["calibrated"]) == (queries, "captions"))
        return 100 * float(row["bounds"][bound][key])

    keys = ("recall", "precision", "kept")
    return [lambda b=bound, k=key: share(b, k) for bound in ("0.5", "0.95") for key in keys]  # type: ignore[misc]


def start(name: str) -> list[Callable[[], float]]:
    """Mean recall of a warm start over the folds, Chinese and English."""

    def mean(column: str) -> float:
        folds = document("warm-starts.json")["mean_recall"][name][column]
        return float(sum(folds) / len(folds))

    return [lambda c=column: mean(c) for column in ("zh", "en")]  # type: ignore[misc]


def trained(column: str, system: str, file: str = "small-recipes.json") -> list[Callable[[], float]]:
    """A recipe's mean recall on the test pictures, over the seeds, and how far it is from the baseline."""

    def row() -> dict[str, Any]:
        (found,) = (row for row in document(file)["texts"][column] if row["system"] == system)
        return dict(found)

    return [
        lambda: float(sum(row()["mean_recall"]) / len(row()["mean_recall"])),
        lambda: abs(float(row()["tests"]["both"]["mean_recall"]["difference"])),
    ]


def scale(key: str, storage: str = "fp16") -> float:
    return float(document("scale.json")["slopes"][storage][key])


def backend(engine: str) -> list[Callable[[], float]]:
    """What a page says of an engine: recall of two stages at 50 to 1000 candidates."""
    found = document("index-backends.json")["results"]["generated"]["engines"][engine]["candidates"]
    return [lambda depth=depth: float(found[depth]["recall"]) for depth in ("50", "100", "200", "1000")]  # type: ignore[misc]


def on_ray(who: str, queries: str) -> float:
    """Milliseconds of queries of a store that workers of a cluster hold, or one process."""
    return 1e3 * float(document("ray.json")["queries"][who][queries])


QUOTES: list[tuple[str, str, list[Callable[[], float]]]] = [
    # page, its words with a group for each number, and the numbers of the files
    *(
        (
            "docs/search.md",
            rf"\| {engine} \| [\d.]* \| [\d,]+ \|" + r" ([\d.]+) \|" * 4,
            backend(engine),
        )
        for engine in document("index-backends.json")["settings"]["engines"]
    ),
    (
        "docs/scale.md",
        r"(\d+) ns \(folded\) and\n  (\d+) ns \(global, the same work\) a picture in fp16, (\d+) and (\d+) in int8",
        [
            lambda storage=storage, name=name: scale(f"{name}_nanoseconds", storage)  # type: ignore[misc]
            for storage in ("fp16", "int8")
            for name in ("folded", "global")
        ],
    ),
    (
        "docs/scale.md",
        r"opening\*\*: (\d+) bytes a picture .*, (\d+) microseconds a picture where",
        [lambda: scale("open_bytes"), lambda: scale("open_microseconds")],
    ),
    (
        "docs/scale.md",
        r"\*\*Writing\*\* (\d+) microseconds a picture from 10\^6 to 10\^7",
        [lambda: scale("build_microseconds")],
    ),
    *(
        (
            "docs/search.md",
            rf"\| {recipe}, {word} \|" + r" (\d+) \|" * 6,
            relevance(recipe, f"captions, {language}"),
        )
        for recipe in ("global", "laclip", "scan", "late-interaction")
        for language, word in (("zh", "Chinese"), ("en", "English"))
    ),
    *(
        ("docs/encoders.md", rf"\| {name} \| ([\d.]+) \(([\d.]+) to ([\d.]+)\) \| ([\d.]+) \|", pooled(name))
        for name in ("motif-small", "ViT-B-16", "FG-CLIP 2 base, 256 patches")
    ),
    *(
        (
            "docs/encoders.md",
            rf"\| {name} \| [^|]* \|" + r" ([\d.]+) \| ([\d.]+) \| ([\d.]+) \(([\d.]+) to ([\d.]+)\) \|",
            beside_the_library(name),
        )
        for name in document("library-speed.json")["components"]
    ),
    *(
        ("docs/encoders.md", rf"\| {system}, {way} \|" + r" ([\d.]+) \|" * 4, described(way, system))
        for way, systems in (
            ("whole", ("global",)),
            *((way, ("late-interaction", "scan")) for way in ("crops", "roi, plain", "roi, clearclip", "roi, naclip")),
        )
        for system in systems
    ),
    (
        "docs/encoding.md",
        r"takes ([\d.]+) times as much of\nthe processor on the windows .* (\d+) times on 20 .* ([\d.]+) times on",
        [lambda case=case: sift(f"motifs, {case}", "speedup") for case in ("windows", "crops", "cells")],  # type: ignore[misc]
    ),
    (
        "docs/encoding.md",
        r"with windows costs ([\d.]+) times .* filter, ([\d.]+)\nwith a detection .* the mask alone, for ([\d.]+)\.",
        [
            lambda way=way: sift("encoding", f"{way} over without")  # type: ignore[misc]
            for way in ("ours", "every crop", "mask alone")
        ],
    ),
    (
        "README.md",
        r"\| patches against texts, softmax, .* \| ([\d.]+) \| cuBLAS making the similarities alone: ([\d.]+) \|",
        [
            lambda: p50(GPU, "patch softmax, all pairs", "float16", "ours"),
            lambda: p50(GPU, "patch softmax, all pairs", "float16", "bare"),
        ],
    ),
    (
        "README.md",
        r"query of 1024 rows \| ([\d.]+) \| flash-maxsim ([\d.]+), late-interaction-kernels ([\d.]+)",
        [
            lambda: p50(GPU, COLPALI, "float16", "ours"),
            lambda: p50(GPU, COLPALI, "float16", "flash-maxsim"),
            lambda: p50(GPU, COLPALI, "float16", "late-interaction-kernels"),
        ],
    ),
    (
        "README.md",
        r"64 queries x 32 rows, .* \| ([\d.]+) \| flash-maxsim ([\d.]+), late-interaction-kernels ([\d.]+)",
        [
            lambda: p50(GPU, QUERIES, "float16", "ours"),
            lambda: p50(GPU, QUERIES, "float16", "flash-maxsim"),
            lambda: p50(GPU, QUERIES, "float16", "late-interaction-kernels"),
        ],
    ),
    (
        "README.md",
        r"patch rerank, one query, 1000 x 196 x 512 \| ([\d.]+) \| copying the bytes: ([\d.]+)",
        [
            lambda: p50(GPU, "patch rerank, 1 x 1000", "float16", "ours"),
            lambda: p50(GPU, "patch rerank, 1 x 1000", "float16", "floor", "floor"),
        ],
    ),
    (
        "README.md",
        r"training step of 128, .* \| ([\d.]+) \(eager ([\d.]+)\) \| autograd through all pairs: (\d+)",
        [
            lambda: p50(GPU, "training step, mined pairs", "float32", "ours"),
            lambda: p50(GPU, "training step, mined pairs", "float32", "ours", "eager"),
            lambda: p50(GPU, "training step, mined pairs", "float32", "bare", "eager"),
        ],
    ),
    (
        "README.md",
        r"1000 images x 36 x 1024, 5000 captions \| ([\d.]+) \| cuBLAS making the cosines alone: ([\d.]+)",
        [lambda: p50(GPU, "SCAN t2i", "float16", "ours"), lambda: p50(GPU, "SCAN t2i", "float16", "bare")],
    ),
    (
        "README.md",
        r"takes ([\d.]+) ms from the text to the regions: ([\d.]+) for the text, ([\d.]+) from\nits vector to the ten "
        r"best \(the kernel's part of it ([\d.]+)\), ([\d.]+) for their regions",
        [
            lambda: stage("query-h100.json", TEXT, "whole"),
            lambda: stage("query-h100.json", TEXT, "text"),
            lambda: stage("query-h100.json", TEXT, "search"),
            lambda: stage("query-h100.json", TEXT, "kernel"),
            lambda: stage("query-h100.json", TEXT, "regions"),
        ],
    ),
    (
        "README.md",
        r"\| text \| ([\d.]+) \| \|\n\| first stage \| ([\d.]+) \| \|\n\| rerank of the 1000, from the mapped store \| "
        r"([\d.]+) \| the same op on features in memory: ([\d.]+)\. ",
        [
            lambda: stage("query-cpu.json", TEXT, "text"),
            lambda: stage("query-cpu.json", TEXT, "first stage"),
            lambda: stage("query-cpu.json", TEXT, "rerank"),
            lambda: stage("query-cpu.json", TEXT, "kernel"),
        ],
    ),
    (
        "README.md",
        r"([\d,]+) JPEG files a second, where decoding alone does ([\d,]+) and the encoder ([\d,]+); (\d+) where",
        [
            lambda way=way: document("encode-h100.json")["results"]["rates"]["per_second"][way]["p50"]  # type: ignore[misc]
            for way in ("fast", "decode", "prepared", "exact")
        ],
    ),
    (
        "README.md",
        r"36 regions, D = 1024, fp32 \| bare `torch\.mm` of the same product \| ([\d.]+)x",
        [lambda: ratio("SCAN t2i", "float32", "bare")],
    ),
    (
        "README.md",
        r"\| BFAN, both directions \| the same \| ([\d.]+)x",
        [lambda: ratio("BFAN both", "float32", "bare")],
    ),
    (
        "README.md",
        r"\| SCAN / BFAN \| per caption, as published \| ([\d.]+) / ([\d.]+) times faster",
        [
            lambda: 1 / ratio("SCAN t2i", "float32", "per caption (published)"),
            lambda: 1 / ratio("BFAN both", "float32", "per caption (published)"),
        ],
    ),
    (
        "README.md",
        r"\| patch rerank, 1000 x 196 x 512, fp16 store \| copying the bytes \| ([\d.]+)x; only reading them ([\d.]+)x",
        [
            lambda: ratio("patch rerank, 1 query", "float16", "bare"),
            lambda: ratio("patch rerank, 1 query", "float16", "read alone"),
        ],
    ),
    (
        "docs/encoding.md",
        r"([\d,]+) prepared pictures a second,\n([\d,]+) files decoded, ([\d,]+) files encoded",
        [
            lambda way=way: document("encode-h100.json")["results"]["rates"]["per_second"][way]["p50"]  # type: ignore[misc]
            for way in ("prepared", "decode", "fast")
        ],
    ),
    (
        "docs/encoding.md",
        r"R@1 ([\d.]+) as they are, ([\d.]+) in traditional characters read as written, ([\d.]+) read as simplified",
        [
            lambda queries=queries: document("characters.json")["r_at_1"][queries]  # type: ignore[misc]
            for queries in ("simplified, as_written", "traditional, as_written", "traditional, auto")
        ],
    ),
    (
        "docs/search.md",
        r"\| first stage \| ([\d.]+) \| ([\d.]+) \|",
        [
            lambda: stage("query-h100-90822e5.json", TEXT, "first stage"),
            lambda: stage("query-h100.json", TEXT, "first stage"),
        ],
    ),
    (
        "docs/search.md",
        r"\| which region answered, of the ten best \| ([\d.]+) \| ([\d.]+) \|",
        [
            lambda: stage("query-h100-90822e5.json", TEXT, "regions"),
            lambda: stage("query-h100.json", TEXT, "regions"),
        ],
    ),
    (
        "docs/recipes.md",
        r"\| `laclip-plus` \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| \+([\d.]+), < 0.001 \| \+([\d.]+), 0.004 \|",
        laclip("tested", "laclip-plus"),
    ),
    (
        "docs/recipes.md",
        r"\| `laclip` \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| -([\d.]+), < 0.001 \| -([\d.]+), 0.88 \|",
        laclip("scores", "laclip"),
    ),
    (
        "docs/recipes.md",
        r"\| `renormalise: true` \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| -([\d.]+), 0.68 \| -([\d.]+), 0.88 \|",
        laclip("scores", "unit length"),
    ),
    (
        "docs/recipes.md",
        r"with crops under the picture's caption, captions \|.*\| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| -5.3, < 0.001 \|",
        [
            lambda name=name: of_encoder("crops", name)["t2i"]["R@1"]["mean"]  # type: ignore[misc]
            for name in ("global", "laclip", "unit length")
        ],
    ),
    (
        "docs/training.md",
        r"\| that after golden fine-tuning \|.*\| \+([\d.]+), < 0.001 \| \+([\d.]+), < 0.001 \| [\d.]+ \| -([\d.]+), ",
        variant("after golden fine-tuning"),
    ),
    (
        "docs/training.md",
        r"\| changed copies as more regions \|.*\| -([\d.]+), 0.011 \| -([\d.]+), < 0.001 \| [\d.]+ \| -([\d.]+), ",
        variant("copies added"),
    ),
    *(
        ("docs/small-collections.md", rf"\| {re.escape(name)} \| ([\d.]+) \| ([\d.]+) \|", start(name))
        for name in (
            "cca, of 1,024 dimensions",
            "scan by means, regions and phrases of their own",
            "... share 0.25",
            "... and phrases in their text",
            "... and a second view (scan by means)",
            "scan, log-sum-exp",
            "bfan",
            "bfan-sf-gb without SIFT",
        )
    ),
    *(
        (
            "docs/small-collections.md",
            rf"\| {column} \| {words} \|[^|]*\|[^|]*\| ([\d.]+) \|.* [+-]([\d.]+) \([\d.]+\) \| [\d.]+ \|",
            trained(column, system),
        )
        for column in ("zh", "en")
        for words, system in (("`scan` by means", "scan"), ("`bfan`", "bfan"), ("`bfan-sf-gb` without SIFT", "bfan-gb"))
    ),
    *(
        (
            "docs/small-collections.md",
            rf"\n\| `{system}` \|[^|]*/[^|]*\|[^|]*/[^|]*\| ([\d.]+) \|.* [+-]([\d.]+) \([<\d. ]+\) \|\n",
            trained("zh", system, "small-recipes-motifs.json"),
        )
        for system in ("scan", "bfan", "scan-gb", "bfan-sf-gb", "scan-gb-small")
    ),
    *(
        (
            "docs/search.md",
            rf"\| {words} \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|",
            detail(system),
        )
        for words, system in (
            (r"windows of 1, 2, 3 a side \(recipe `late-interaction`\)", "windows of 1, 2, 3"),
            (
                r"the same, the best 50 then ranked by keypoints \(recipe `keypoints-last`, below\)",
                "windows of 1, 2, 3, then keypoints",
            ),
            ("the windows, details encoded as cut", "windows of 1, 2, 3, as cut"),
            ("windows of 1 to 5 a side", "windows of 1 to 5"),
            (r"20 random crops \(recipe `laclip`\)", "random crops"),
            ("patches of the whole picture's encoding", "patches"),
        )
    ),
    *(
        ("docs/search.md", rf"\| {words} \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|\n", photographed(system))
        for words, system in (
            ("whole pictures", "whole pictures"),
            ("windows of 1, 2, 3 a side", "windows"),
            ("the same, the best 50 then ranked by keypoints", "windows, then keypoints"),
            (r"all 200 photographs ranked by keypoints \(`search.last.candidates`\)", "all looked at"),
        )
    ),
    (
        "docs/search.md",
        r"other photographs, ([\d.]+) to ([\d.]+) % scored 1 and more, ([\d.]+) % 2,\s+([\d.]+) to ([\d.]+) % 3\.",
        [
            lambda: min(accidents("1")),
            lambda: max(accidents("1")),
            lambda: max(accidents("2")),
            lambda: min(accidents("3")),
            lambda: max(accidents("3")),
        ],
    ),
    (
        "docs/search.md",
        r"\| whole pictures \| ([\d.]+) \| \| ([\d.]+) \| \|",
        [detail("whole pictures")[place] for place in (0, 2)],
    ),
    (
        "docs/cluster.md",
        r"takes ([\d.]+) ms where one process takes ([\d.]+), ([\d.]+) times .* 64 queries\s+together "
        r"take ([\d.]+) times",
        [
            lambda: on_ray("ray", "1"),
            lambda: on_ray("local", "1"),
            lambda: on_ray("ray", "1") / on_ray("local", "1"),
            lambda: on_ray("ray", "64") / on_ray("local", "64"),
        ],
    ),
    (
        "docs/search.md",
        r"the text alone found ([\d.]+) \(Chinese\)\s+and ([\d.]+) % \(English\), the detail alone ([\d.]+)",
        [
            lambda: asked_with("zh", "1.0"),
            lambda: asked_with("en", "1.0"),
            lambda: asked_with("zh", "0.0"),
        ],
    ),
    *(("docs/service.md", rf"\| {clients} \|" + r" ([\d.]+) \|" * 6, served(clients)) for clients in (1, 8, 64)),
    (
        "docs/service.md",
        r"in turn: ([\d.]+) ms and ([\d.]+) \(p10 ([\d.]+) and ([\d.]+)\),\s+the median of the differences ([\d.]+);",
        [
            lambda key=key: one_client(key)  # type: ignore[misc]
            for key in ("service_p50", "searcher_p50", "service_p10", "searcher_p10", "overhead_p50")
        ],
    ),
    (
        "docs/service.md",
        r"a request takes ([\d.]+) ms in the service and ([\d.]+) in the searcher",
        [lambda: one_client("service_cpu"), lambda: one_client("searcher_cpu")],
    ),
    (
        "docs/search.md",
        r"([\d.]+), (\d), (\d), (\d) for\s+one\s+detail, ([\d.]+), ([\d.]+), ([\d.]+), (\d) for two",
        [*handed_on("one detail"), *handed_on("two details")],
    ),
]


@pytest.mark.parametrize(
    ("page", "words", "numbers"), QUOTES, ids=[f"{page}-{n}" for n, (page, *_) in enumerate(QUOTES)]
)
def test_pages_quote_the_files(page: str, words: str, numbers: list[Callable[[], float]]) -> None:
    found = re.findall(words, (ROOT / page).read_text(encoding="utf-8"))
    assert len(found) == 1, f"{page}: expected these words once: {words}"
    quoted = [found[0]] if isinstance(found[0], str) else list(found[0])
    for text, number in zip(quoted, (call() for call in numbers), strict=True):
        decimals = len(text.partition(".")[2])
        assert text.replace(",", "") == f"{number:.{decimals}f}", f"{page}: {text} where the file has {number}"


def test_what_training_on_gave_is_told_as_it_was_measured() -> None:
    page = (ROOT / "examples" / "train_motif_encoder" / "README.md").read_text(encoding="utf-8")
    part = page.partition("## What the runs with crops gave")[2].partition("\n## ")[0]
    found = document("longer-training.json")
    for epochs in found["epochs"].values():
        assert ", ".join(f"{epoch['recall']:.1f}" for epoch in epochs) in part
    for name, rows in found["systems"].items():
        cells = [f"{sum(row[way].values()) / 3:.1f}" for row in rows.values() for way in ("t2i", "i2t")]
        assert f"| {name} | {' | '.join(cells)} |" in part
    gains = [gain for rows in found["systems"].values() for gain in rows["again-2"]["difference"].values()]
    assert f"by {min(gains):.1f} to {max(gains):.1f} points" in part
