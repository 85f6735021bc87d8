"""Annotations of hits, explanations and vectors: in the form of the specifications, and back from it."""

from __future__ import annotations

import base64
import json
import math
import re
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from heritage_align import Store
from heritage_align.annotations import annotated_manifest, page_of_hits, read_manifest, selector, write_page
from heritage_align.cli import cli
from heritage_align.types import Hit, TextItem

BODY = {
    "type": "object",
    "required": ["type", "value"],
    "properties": {
        "type": {"const": "TextualBody"},
        "value": {"type": "string", "minLength": 1},
        "format": {"const": "text/plain"},
        "language": {"type": "string", "pattern": "^[a-z]{2}$"},
        "purpose": {"enum": ["tagging", "assessing"]},  # of the motivations of the Web Annotation Vocabulary
    },
    "additionalProperties": False,
}
VECTOR = {
    "type": "object",
    "required": ["type", "vector", "vectorEncoding", "model"],
    "properties": {
        "type": {"const": "EmbeddingVector"},
        "vector": {"type": "string", "pattern": "^[A-Za-z0-9+/]+={0,2}$"},
        "vectorEncoding": {"const": "base64"},
        "model": {"required": ["name", "version", "dimensions", "dataType", "endianness"]},
    },
    "additionalProperties": False,
}
URI = {"type": "string", "pattern": r"^https?://[!-~]+$"}  # section 3.2: the id is an HTTP(S) URI
PAGE = {
    "type": "object",
    "required": ["@context", "id", "type", "items"],
    "properties": {
        "@context": {"enum": ["http://iiif.io/api/presentation/3/context.json"]},
        "id": URI,
        "type": {"const": "AnnotationPage"},
        "items": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["id", "type", "motivation", "body", "target"],
                "properties": {
                    "id": URI,
                    "type": {"const": "Annotation"},
                    "motivation": {"enum": ["tagging"]},
                    "body": {"type": "array", "items": BODY, "minItems": 1},
                    "target": {"type": "string", "minLength": 1},
                },
                "additionalProperties": False,
            },
        },
    },
    "additionalProperties": False,
}
"""What Presentation 3.0 (section 5.5) and the Web Annotation Data Model ask of a page, as far as it is used here."""


def vector_page() -> dict[str, Any]:
    page = json.loads(json.dumps(PAGE))
    items = page["properties"]["items"]["items"]["properties"]
    items["motivation"], items["body"], items["target"] = {"const": "embedding"}, VECTOR, {"type": "object"}
    page["properties"]["@context"] = {
        "const": [
            "http://iiif.io/api/extension/embeddings/1/context.json",
            "http://iiif.io/api/presentation/3/context.json",
        ]
    }
    return page


def manifest(folder: Path, size: tuple[int, int] = (1280, 800)) -> Path:
    base = "https://example.org/object"
    items = []
    for number, colour in enumerate(["gold", "maroon", "teal"]):
        image = Image.new("RGB", (320, 200), "navy")
        ImageDraw.Draw(image).ellipse([40 * number, 30, 40 * number + 90, 120], fill=colour)
        image.save(folder / f"{number}.png")
        canvas = f"{base}/canvas/{number}"
        body = {"id": f"{number}.png", "type": "Image", "format": "image/png"}
        painting = {"id": f"{canvas}/1", "type": "Annotation", "motivation": "painting", "body": body, "target": canvas}
        page = {"id": f"{canvas}/page", "type": "AnnotationPage", "items": [painting]}
        sides = {"width": size[0], "height": size[1]}
        label = {"en": [f"a {colour} moon"]}
        items.append({"id": canvas, "type": "Canvas", "label": label, **sides, "items": [page]})
    document = {
        "@context": "http://iiif.io/api/presentation/3/context.json",
        "id": f"{base}/manifest.json",
        "type": "Manifest",
        "label": {"en": ["moons"]},
        "items": items,
    }
    (folder / "manifest.json").write_text(json.dumps(document))
    return folder / "manifest.json"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("iiif")
    path = manifest(folder)
    command = ["index", "build", "late-interaction", "--data", str(path), "--out", str(folder / "store")]
    built = CliRunner().invoke(cli, command)
    assert built.exit_code == 0, built.output
    assert "3 images, 0 left out" in built.output
    return folder / "store"


def run(*words: object) -> Any:
    found = CliRunner().invoke(cli, [str(word) for word in words])
    assert found.exit_code == 0, found.output
    return found


def test_hits_are_annotations_of_canvases(store: Path, tmp_path: Path) -> None:
    out, data = tmp_path / "hits.json", store.parent / "manifest.json"
    text = "a gold moon, 蓝地"
    found = run(
        "search", "late-interaction", "--store", store, "--data", data, "--annotations", out, "--json", text,
    )  # fmt: skip
    page = json.loads(out.read_text(encoding="utf-8"))
    jsonschema.validate(page, PAGE)
    hits = json.loads(found.stdout)["hits"]
    assert len(page["items"]) == sum(len(hit["regions"]) for hit in hits) == 6
    assert len({item["id"] for item in page["items"]}) == 6
    expected = [(hit["id"], region) for hit in hits for region in hit["regions"]]
    for item, (image_id, region) in zip(page["items"], expected):
        canvas, _, fragment = item["target"].partition("#xywh=")
        assert canvas == image_id
        x, y, width, height = (int(part) for part in fragment.split(","))
        assert 0 <= x < x + width <= 1280
        assert 0 <= y < y + height <= 800
        x0, y0, x1, y1 = region["box"]
        corners = (1280 * x0, 800 * y0, 1280 * x1, 800 * y1)
        assert np.abs(np.array([x, y, x + width, y + height]) - corners).max() <= 1
        assert item["body"][0]["value"] == region["phrase"]
        assert item["body"][0]["language"] == ("zh" if region["phrase"] == "蓝地" else "en")


def test_a_manifest_gets_the_hits_of_each_canvas_in_a_page_of_its_own(store: Path, tmp_path: Path) -> None:
    out, data, page = tmp_path / "m.json", store.parent / "manifest.json", tmp_path / "page.json"
    search = ["search", "late-interaction", "--store", store, "--data", data]
    run(*search, "--annotations", page, "--annotated-manifest", out, "--top-k", 2, "a gold moon, 蓝地")
    given, found = (json.loads(path.read_text(encoding="utf-8")) for path in (data, out))
    items = json.loads(page.read_text(encoding="utf-8"))["items"]
    assert len(found["items"]) == 3
    assert sum("annotations" in canvas for canvas in found["items"]) == 2
    for canvas, before in zip(found["items"], given["items"]):
        pages = canvas.pop("annotations", [])
        assert canvas == before
        own = [item for item in items if item["target"].partition("#")[0] == canvas["id"]]
        assert [item for page in pages for item in page["items"]] == own
        for page_of_canvas in pages:
            jsonschema.validate({"@context": PAGE["properties"]["@context"]["enum"][0], **page_of_canvas}, PAGE)
    # Of the annotated manifest it is the same: what was there stays, and it is a manifest that can be indexed.
    again = tmp_path / "again.json"
    out_of_place = store.parent / "annotated.json"
    out_of_place.write_bytes(out.read_bytes())
    explain = ["explain", "late-interaction", given["items"][1]["id"], "a moon", "--out", tmp_path / "e.png"]
    where = f"data={{name: iiif, manifest: {out_of_place}}}"
    run(*explain, "--set", where, "--annotated-manifest", again)
    counts = [len(canvas.get("annotations", [])) for canvas in json.loads(again.read_text())["items"]]
    assert counts == [count + (number == 1) for number, count in enumerate(
        len(canvas.get("annotations", [])) for canvas in json.loads(out.read_text())["items"])]  # fmt: skip


@pytest.mark.parametrize(
    ("document", "fault"),
    [
        ({"@type": "sc:Manifest", "sequences": []}, "Presentation API 3 alone, and it is none"),
        ({"type": "Collection", "items": []}, "Presentation API 3 alone, and it is none"),
        ({"type": "Manifest", "items": {}}, "it has no list of canvases"),
        ({"type": "Manifest", "items": [], "seeAlso": math.nan}, "is not JSON: Out of range float values"),
        ({"type": "Manifest", "items": [], "rights": "\ud800"}, "is not JSON: 'utf-8' codec can't encode"),
    ],
)
def test_only_a_manifest_of_presentation_3_is_annotated(
    store: Path, tmp_path: Path, document: dict[str, Any], fault: str
) -> None:
    path = tmp_path / "of.json"
    path.write_text(json.dumps(document))
    search = ["search", "late-interaction", "--store", store, "--annotated-manifest", tmp_path / "m.json", "x"]
    where = ["--set", f"data={{name: iiif, manifest: {path}}}"]
    found = CliRunner().invoke(cli, [str(word) for word in [*search, *where]])
    assert found.exit_code == 2
    assert fault in found.stderr
    assert str(path) in found.stderr
    for data, named in [
        ("{name: motifs}", "give --data manifest.json"),
        ("{name: iiif, manifest: 'https://a.b/m'}", "save it"),
    ]:
        found = CliRunner().invoke(cli, [str(word) for word in [*search, "--set", f"data={data}"]])
        assert found.exit_code == 2
        assert named in found.stderr


def test_an_explanation_is_annotations_of_its_canvas(store: Path, tmp_path: Path) -> None:
    out, canvas = tmp_path / "e.json", "https://example.org/object/canvas/1"
    run(
        "explain",
        store / "config.yaml",
        canvas,
        "a maroon moon, blue",
        "--annotations",
        out,
        "--out",
        tmp_path / "e.png",
    )
    page = json.loads(out.read_text(encoding="utf-8"))
    jsonschema.validate(page, PAGE)
    assert [item["body"][0]["value"] for item in page["items"]] == ["a maroon moon", "blue"]
    assert all(item["target"].startswith(f"{canvas}#xywh=") for item in page["items"])


def test_vectors_come_back_from_their_annotations(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "vectors.json"
    canvas = "https://example.org/object/canvas/2"
    run("index", "annotate", store, "--id", canvas, "--out", out)
    page = json.loads(out.read_text(encoding="utf-8"))
    jsonschema.validate(page, vector_page())
    opened = Store.open(store)
    encoder = opened.manifest.build.identity["encoder"]
    features = opened.shard_features(0)
    row = features.ids.index(canvas)
    assert features.regions is not None
    start, end = (int(features.regions.offsets[place]) for place in (row, row + 1))
    assert len(page["items"]) == 1 + end - start
    vectors = []
    for item in page["items"]:
        model = item["body"]["model"]
        data = base64.b64decode(item["body"]["vector"])
        assert len(data) == 4 * model["dimensions"]
        assert f"{model['name']}/{model['version']}" == model["fingerprint"] == encoder
        vectors.append(np.frombuffer(data, "<f4"))
    stored = features.regions.values[start:end].float().numpy()
    np.testing.assert_allclose(np.stack(vectors[1:]), stored, atol=2e-3)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    whole = {"id": canvas, "type": "Canvas", "width": 1280, "height": 800}
    assert page["items"][0]["target"] == whole
    for item in page["items"][1:]:
        assert item["target"]["source"] == whole
        assert re.fullmatch(r"xywh=\d+,\d+,\d+,\d+", item["target"]["selector"]["value"])
    assert f"{3 * len(page['items'])} vectors" in run("index", "annotate", store, "--out", out).output
    assert len(json.loads(out.read_text())["items"]) == 3 * len(page["items"])


def test_faults_are_said_before_a_model_loads(store: Path, tmp_path: Path) -> None:
    for words, reason in [
        (["index", "annotate", store, "--id", "nobody", "--out", tmp_path / "v.json"], "holds no image 'nobody'"),
        (["index", "annotate", store, "--out", tmp_path / "v.txt"], "must end in .json"),
        (["search", "global", "--store", store, "--annotations", tmp_path / "none" / "a.json", "x"], "no folder"),
        (["search", "global", "--store", store, "--annotations", "a.json", "--queries", "-"], "--annotations"),
        (["search", "global", "--store", store, "--annotated-manifest", "a.txt", "x"], "must end in .json"),
    ]:
        found = CliRunner().invoke(cli, [str(word) for word in words])
        assert found.exit_code == 2, found.output
        assert reason in found.stderr


def test_hits_of_whole_pictures_and_of_pictures_that_are_no_canvases() -> None:
    item = TextItem("q", "蓝地")
    regions = (("蓝", (0.25, 0.5, 0.75, 1.0), 0.5),)
    page = page_of_hits([(item, [Hit("a.png", 0.5, 1), Hit("b.png", float("-inf"), 2, regions)])], {}, "scan")
    jsonschema.validate(page, PAGE)
    assert [part["target"] for part in page["items"]] == ["a.png", "b.png#xywh=percent:25,50,50,50"]


@given(
    box=st.tuples(*[st.floats(-0.1, 1.1)] * 4).map(lambda b: (*sorted(b[::2]), *sorted(b[1::2]))).map(
        lambda b: (b[0], b[2], b[1], b[3])
    ),
    width=st.integers(1, 30_000),
    height=st.integers(1, 30_000),
)  # fmt: skip
def test_selectors_stay_on_the_canvas_and_are_never_empty(box: Any, width: int, height: int) -> None:
    x, y, across, down = (int(part) for part in selector(box, (width, height)).removeprefix("xywh=").split(","))
    assert x >= 0
    assert y >= 0
    assert across >= 1
    assert down >= 1
    assert x + across <= width
    assert y + down <= height
    left, right = (min(max(v, 0), 1) * width for v in (box[0], box[2]))
    assert x <= left + 1
    assert x + across >= right - 1


def test_pictures_of_manifests_are_learned_from(tmp_path: Path) -> None:
    members = []
    for number in range(4):
        folder = tmp_path / str(number)
        folder.mkdir()
        text = manifest(folder).read_text().replace("https://example.org/object", f"https://example.org/{number}")
        members.append(json.loads(re.sub(r'"(\d)\.png"', rf'"{number}/\1.png"', text)))
        del members[-1]["items"][2]
    whole = tmp_path / "collection.json"
    whole.write_text(json.dumps({"type": "Collection", "id": "https://example.org/c", "items": members}))
    train = ["train", "cn-clip-finetune", "--set", "train.epochs=1", "--set", "train.batch_size=2", "--data"]
    run(*train, whole, "--fold", "1/4", "--out", tmp_path / "folds")
    assert json.loads(run("evaluate", tmp_path / "folds/config.yaml", "--json", "--ks", "1").stdout)["images"] == 2
    assert "measures what was learned from" in run(*train, whole, "--out", tmp_path / "all").stderr
    words = [*train, tmp_path / "0/manifest.json", "--fold", "1/4", "--out", tmp_path / "none"]
    one = CliRunner().invoke(cli, [str(word) for word in words])  # the canvases of a manifest are one artwork
    assert one.exit_code == 2
    assert "4 folds need 4 artworks" in one.stderr


def test_canvases_of_other_types_are_left_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text('{"type": "Manifest", "items": [3, {"id": []}, {"id": "c", "annotations": 5}]}')
    document = read_manifest(tmp_path / "m.json")
    found = annotated_manifest(document, {"id": "p", "items": [{"target": "c#xywh=1,2,3,4"}]})
    own = {"id": "p/2", "type": "AnnotationPage", "items": [{"target": "c#xywh=1,2,3,4"}]}
    assert found["items"] == [3, {"id": []}, {"id": "c", "annotations": [own]}]


def test_a_page_that_is_nested_too_deeply_is_named(tmp_path: Path) -> None:
    nested: list[Any] = []
    for _ in range(5000):
        nested = [nested]
    with pytest.raises(ValueError, match="is nested too deeply"):
        write_page(tmp_path / "p.json", {"items": nested})
    assert not (tmp_path / "p.json").exists()
