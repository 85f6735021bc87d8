"""The data set components: light to describe, checked before they are built, built from plain settings."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pydantic import ValidationError

from heritage_align.plugins import default_registry
from heritage_align.protocols import BuildContext, Dataset

NAMES = ("artwork_pairs", "captions", "chinese_clip", "folder", "iiif", "karpathy", "table")


Samples = dict[str, dict[str, Any]]


@pytest.fixture
def samples(tmp_path: Path) -> Samples:
    """Write one picture in every form and return the settings that read it."""
    (tmp_path / "pictures").mkdir()
    stream = BytesIO()
    Image.new("RGB", (4, 4), (9, 9, 9)).save(stream, "PNG")
    (tmp_path / "pictures/1.png").write_bytes(stream.getvalue())
    files = {
        "test_imgs.tsv": b"1\t" + base64.b64encode(stream.getvalue()),
        "test_texts.jsonl": {"text_id": 7, "text": "鹤", "image_ids": [1]},
        "table.csv": "image,text\n1.png,鹤\n".encode(),
        "artworks.jsonl": {
            "id": 1,
            "image": "1.png",
            "text": "鹤",
            "regions": [{"box": [0, 0, 2, 2], "phrases": ["鹤"]}],
        },
        "captions.txt": "1.png#zhc#0\t鹤\n".encode(),
        "karpathy.json": {
            "images": [{"filename": "1.png", "split": "test", "sentences": [{"sentid": 7, "raw": "鹤"}]}]
        },
    }
    painted = {"resource": {"@id": "pictures/1.png", "@type": "dctypes:Image"}}
    canvas = {"@id": "https://example.org/c", "@type": "sc:Canvas", "label": "鹤", "images": [painted]}
    files["manifest.json"] = {"@type": "sc:Manifest", "sequences": [{"canvases": [canvas]}]}
    for name, content in files.items():
        data = content if isinstance(content, bytes) else json.dumps(content, ensure_ascii=False).encode()
        (tmp_path / name).write_bytes(data)
    pictures = str(tmp_path / "pictures")
    return {
        "artwork_pairs": {"file": str(tmp_path / "artworks.jsonl"), "images": pictures},
        "captions": {"file": str(tmp_path / "captions.txt"), "images": pictures},
        "chinese_clip": {"folder": str(tmp_path)},
        "folder": {"folder": pictures},
        "iiif": {"manifest": str(tmp_path / "manifest.json")},
        "karpathy": {"file": str(tmp_path / "karpathy.json"), "images": pictures, "language": "zh"},
        "table": {"file": str(tmp_path / "table.csv"), "images": pictures, "title": "silk"},
    }


@pytest.mark.parametrize("name", NAMES)
def test_every_form_becomes_a_data_set(name: str, samples: Samples) -> None:
    registry = default_registry()
    spec = registry.spec("dataset", name)
    settings = registry.config_model(spec).model_validate(samples[name])
    data = registry.target(spec)(settings, BuildContext())
    assert isinstance(data, Dataset)
    assert len(data.image_ids) == 1
    assert data.load_image(data.image_ids[0]).getpixel((0, 0)) == (9, 9, 9)
    assert [item.text for item in data.texts] == ([] if name == "folder" else ["鹤"])
    assert all(item.image_ids == data.image_ids for item in data.texts)
    assert [pair.phrases for pair in data.golden] == ([("鹤",)] if name == "artwork_pairs" else [])
    assert data.name == {"table": "silk", "folder": "pictures"}.get(name, data.name)


@pytest.mark.parametrize("name", NAMES)
def test_the_planner_learns_which_files_must_exist(name: str, samples: Samples) -> None:
    registry = default_registry()
    settings = registry.config_model(registry.spec("dataset", name)).model_validate(samples[name])
    paths = {
        key: Path(value) for key, value in samples[name].items() if key in ("file", "folder", "images", "manifest")
    }
    assert settings.facts().files == paths


@pytest.mark.parametrize("name", NAMES)
def test_settings_are_strict_and_described(name: str, samples: Samples) -> None:
    registry = default_registry()
    model = registry.config_model(registry.spec("dataset", name))
    assert all(field.description for field in model.model_fields.values())
    with pytest.raises(ValidationError, match="colour"):
        model.model_validate({**samples[name], "colour": "red"})
    with pytest.raises(ValidationError, match=r"file|folder|manifest"):
        model.model_validate({})


def test_describing_them_imports_nothing_heavy() -> None:
    code = (
        "import sys, heritage_align_plugins.datasets as d, heritage_align_plugins.datasets.config\n"
        "assert len(d.heritage_align_components()) == 15\n"
        "print(sorted({'torch', 'numpy', 'PIL', 'lmdb'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[3]
    environment = {"PYTHONPATH": f"{root}:{root / 'plugins'}", "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
