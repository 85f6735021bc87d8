"""Data sets of two languages as components: the conformance kit, and captions in one language alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pydantic import ValidationError

from heritage_align.data.two_languages import pair_captions
from heritage_align.errors import DataError
from heritage_align.testing import Case, check_component


@pytest.fixture
def cases(tmp_path: Path) -> dict[str, Case]:
    """Write two pictures, a torn one, and captions of them in every form."""
    names = ["1.png", "2.png", "3.png"]
    for k, name in enumerate(names):
        Image.new("RGB", (4, 5), (9 * k, 9, 9)).save(tmp_path / name)
    (tmp_path / "3.png").write_bytes((tmp_path / "3.png").read_bytes()[:40])
    keys = [name[0] for name in names]
    files = {
        "list.txt": names,
        "train.en": [f"picture {key}" for key in keys],
        "train.de": [f"Bild {key}" for key in keys],
        "en.txt": [f"{key}#enc#0 picture {key}" for key in keys],
        "de.txt": [f"{key}#enc2de#0 Bild {key}" for key in keys],
    }
    for name, lines in files.items():
        (tmp_path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    videos = [{"videoID": f"v{key}", "enCap": [f"video {key}"], "chCap": [f"视频{key}"]} for key in keys]
    (tmp_path / "vatex.json").write_text(json.dumps(videos), encoding="utf-8")
    at = {name: str(tmp_path / name) for name in [*files, "vatex.json"]}
    parallel = {
        "image_list": at["list.txt"],
        "images": str(tmp_path),
        "captions": {"en": [at["train.en"]], "de": [at["train.de"]]},
    }
    translated = {
        "source": at["en.txt"], "target": at["de.txt"], "images": str(tmp_path), "target_language": "de"
    }  # fmt: skip
    no_pictures = {f"v{key}": f"v{key}.mp4" for key in keys}
    return {
        "parallel_captions": Case("dataset", "parallel_captions", parallel, bad_images={"3.png": "3.png"}),
        "translated_captions": Case("dataset", "translated_captions", translated, bad_images={"3": "3.png"}),
        "vatex": Case("dataset", "vatex", {"file": at["vatex.json"]}, bad_images=no_pictures),
    }


@pytest.mark.parametrize("name", ["parallel_captions", "translated_captions", "vatex"])
def test_the_kit(cases: dict[str, Case], name: str) -> None:
    skipped = {result.check for result in check_component(cases[name]) if result.state == "skipped"}
    assert skipped == {"check_golden_boxes", "check_nested_places"}


@pytest.mark.parametrize(
    ("name", "target"), [("parallel_captions", "de"), ("translated_captions", "de"), ("vatex", "zh")]
)
def test_both_languages_or_one(cases: dict[str, Case], name: str, target: str) -> None:
    case = cases[name]
    assert len(pair_captions(case.build(), "en", target)) == 3
    alone = Case(case.kind, case.name, {**case.settings, "language": target}).build()
    assert {item.language for item in alone.texts} == {target}
    assert len(alone.texts) == len(alone.image_ids) == 3


def test_a_language_that_is_not_there(cases: dict[str, Case]) -> None:
    def settings(name: str) -> dict[str, Any]:
        return {**cases[name].settings, "language": "fr"}

    with pytest.raises(ValidationError, match=r"'fr' is not among captions \(en, de\)"):
        _ = Case("dataset", "parallel_captions", settings("parallel_captions")).config
    with pytest.raises(DataError, match="has no caption in 'fr', only in 'en', 'zh'"):
        Case("dataset", "vatex", settings("vatex")).build()


def test_files_are_looked_for_before_anything_is_built(cases: dict[str, Case]) -> None:
    assert set(cases["parallel_captions"].config.facts().files) == {
        "image_list", "images", "captions.en.0", "captions.de.0"
    }  # fmt: skip
    without = Case(
        "dataset", "translated_captions", {**cases["translated_captions"].settings, "require_pictures": False}
    )
    assert set(without.config.facts().files) == {"source", "target"}
