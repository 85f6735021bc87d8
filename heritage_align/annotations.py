"""Answers, explanations and region vectors as W3C Web Annotations on canvases, for viewers of IIIF.

A page is a IIIF Presentation 3 AnnotationPage. Its items are of one or many canvases. Viewers take a page for that of
the canvas that names it among its ``annotations`` (Mirador 3 lists all items of it there), so that a manifest to be
looked at gets a page a canvas (`annotated_manifest`). Of images that are no canvases the id is the target, with a
selector in percent.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from heritage_align.data.lines import read_json
from heritage_align.errors import DataError
from heritage_align.store.files import write_atomically
from heritage_align.text.scripts import has_han

if TYPE_CHECKING:
    from heritage_align.report.explain import Explanation
    from heritage_align.types import Hit, ImageFeatures, TextItem

PRESENTATION = "http://iiif.io/api/presentation/3/context.json"
EMBEDDINGS = "http://iiif.io/api/extension/embeddings/1/context.json"
"""Context of the draft extension for embeddings (nulib-labs/iiif-embeddings-extension)."""
MEDIA_FRAGMENTS = "http://www.w3.org/TR/media-frags/"
BASE = "http://localhost/heritage-align"
"""Beginning of the ids that are made; IIIF asks for addresses of the web. Name your own where the page is published."""

Sizes = Mapping[str, tuple[int, int]]
Box = Sequence[float]


def page_of_hits(
    answers: Iterable[tuple[TextItem, Sequence[Hit]]], sizes: Sizes, system: str, base: str = BASE
) -> dict[str, Any]:
    """Return the hits of queries: an annotation for every region that answered a phrase, or for the whole picture.

    Args:
        answers: queries with their hits.
        sizes: image id -> width and height of its canvas's coordinates.
        system: name of the configuration.
        base: beginning of the ids.
    """
    items, texts = [], []
    for item, hits in answers:
        texts.append(item.text)
        for hit in hits:
            parts = hit.regions or ((item.text, None, hit.score),)
            for number, (phrase, box, score) in enumerate(parts):
                name = f"{base}/{_digest(system, item.text)}/{quote(item.id, safe='')}/{hit.rank}/{number}"
                items.append(_tag(name, hit.id, sizes.get(hit.id), box, phrase, score, system))
    return _page(f"{base}/{_digest(system, *texts)}/hits", items, [PRESENTATION])


def page_of_explanation(explanation: Explanation, sizes: Sizes, base: str = BASE) -> dict[str, Any]:
    """Return which region of a picture answered which phrase of a text."""
    image_id = explanation.image_id
    name = f"{base}/{_digest(explanation.system, image_id, explanation.text)}/explanation"
    items = [
        _tag(f"{name}/{number}", image_id, sizes.get(image_id), box, phrase, score, explanation.system)
        for number, (phrase, box, score) in enumerate(explanation.answers())
    ]
    return _page(name, items, [PRESENTATION])


def page_of_vectors(
    batches: Iterable[ImageFeatures],
    sizes: Sizes,
    fingerprint: str,
    *,
    wanted: Sequence[str] | None = None,
    base: str = BASE,
) -> dict[str, Any]:
    """Return the vectors of pictures and their regions, in the form of the draft extension for embeddings.

    Args:
        batches: features, boxes as fractions.
        sizes: as of `page_of_hits`.
        fingerprint: of the encoder, which is model and version there.
        wanted: ids of the images that are taken; None takes all.
        base: beginning of the ids.
    """
    taken = None if wanted is None else set(wanted)
    base = f"{base}/{_digest(fingerprint)}"
    items = [item for batch in batches for item in _vectors(batch, sizes, fingerprint, taken, base)]
    return _page(f"{base}/vectors", items, [EMBEDDINGS, PRESENTATION])


def annotated_manifest(manifest: Mapping[str, Any], page: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a manifest whose canvases carry the items of a page, each canvas a page of its own.

    Args:
        manifest: of Presentation 3.
        page: items of canvases that are not the manifest's are left out.

    Raises:
        DataError: the document is no manifest of Presentation 3; canvases of 2 only refer to lists of annotations.
    """
    check_manifest(manifest)
    of_canvas: dict[str, list[Any]] = {}
    for item in page["items"]:
        of_canvas.setdefault(item["target"].partition("#")[0], []).append(item)
    canvases = []
    for number, canvas in enumerate(manifest["items"]):
        name = canvas.get("id") if isinstance(canvas, dict) else None
        items = of_canvas.get(name) if isinstance(name, str) else None
        if items:
            own = {"id": f"{page['id']}/{number}", "type": "AnnotationPage", "items": items}
            before = canvas.get("annotations")
            canvas = {**canvas, "annotations": [*(before if isinstance(before, list) else []), own]}
        canvases.append(canvas)
    return {**manifest, "items": canvases}


def check_manifest(document: Any) -> None:
    """Raise DataError for what is no manifest of Presentation 3."""
    fault = None
    if not isinstance(document, dict) or document.get("type") != "Manifest":
        fault = "it is none"
    elif not isinstance(document.get("items"), list):
        fault = "it has no list of canvases (items)"
    if fault is not None:
        raise DataError(f"annotations can be put into a manifest of IIIF's Presentation API 3 alone, and {fault}")


def read_manifest(path: Path) -> Mapping[str, Any]:
    """Read a manifest that annotations are to be put into.

    Raises:
        DataError: it cannot be read, is no manifest of Presentation 3, or no JSON that can be written again: Python's
            parser takes NaN, numbers beyond a float and lone surrogates.
    """

    def checked(document: Any) -> Mapping[str, Any]:
        check_manifest(document)
        _json(document)
        found: Mapping[str, Any] = document
        return found

    return read_json(path, "JSON", checked)


def write_page(path: Path, page: Mapping[str, Any]) -> None:
    """Write a page or a manifest as UTF-8.

    Raises:
        StoreError: the file cannot be written.
        ValueError: the document holds NaN, an infinite number or a lone surrogate, or is nested too deeply.
    """
    data = _json(page)

    def write(temporary: Path) -> None:
        temporary.write_bytes(data)

    write_atomically(path, write)


def _json(document: Mapping[str, Any]) -> bytes:
    try:
        return (json.dumps(document, ensure_ascii=False, indent=1, allow_nan=False) + "\n").encode("utf-8")
    except RecursionError:
        raise ValueError("is nested too deeply") from None


def selector(box: Box, size: tuple[int, int] | None) -> str:
    """Return ``xywh=`` of a box in fractions: whole pixels that hold it, or percent where no size is known.

    >>> selector((0.1, 0.2, 0.5, 1.0), (1000, 501))
    'xywh=100,100,400,401'
    >>> selector((0.1, 0.2, 0.5, 1.0), None)
    'xywh=percent:10,20,40,80'
    """
    x0, y0, x1, y1 = (min(max(float(value), 0.0), 1.0) for value in box)
    if size is None:
        return "xywh=percent:" + ",".join(f"{100 * value:.4g}" for value in (x0, y0, x1 - x0, y1 - y0))
    left, top = _inward(math.floor, x0 * size[0], size[0] - 1), _inward(math.floor, y0 * size[1], size[1] - 1)
    right, bottom = (
        _inward(math.ceil, value, side) for value, side in ((x1 * size[0], size[0]), (y1 * size[1], size[1]))
    )
    return f"xywh={left},{top},{max(1, right - left)},{max(1, bottom - top)}"


def _inward(rounded: Any, value: float, most: int) -> int:
    """Round outwards, but not by what float32 adds to a whole number."""
    whole = round(value)
    return int(min(max(whole if abs(value - whole) < 1e-3 else rounded(value), 0), most))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:12]


def _page(name: str, items: list[dict[str, Any]], contexts: list[str]) -> dict[str, Any]:
    context: str | list[str] = contexts[0] if len(contexts) == 1 else contexts
    return {"@context": context, "id": name, "type": "AnnotationPage", "items": items}


def _tag(
    name: str, image_id: str, size: tuple[int, int] | None, box: Box | None, words: str, score: float, system: str
) -> dict[str, Any]:
    body: dict[str, Any] = {"type": "TextualBody", "purpose": "tagging", "format": "text/plain", "value": words}
    body["language"] = "zh" if has_han(words) else "en"
    bodies = [body]
    if math.isfinite(score):
        value = f"{system} {score:.4f}"
        bodies.append({"type": "TextualBody", "purpose": "assessing", "format": "text/plain", "value": value})
    target = image_id if box is None else f"{image_id}#{selector(box, size)}"
    return {"id": name, "type": "Annotation", "motivation": "tagging", "body": bodies, "target": target}


def _vectors(
    batch: ImageFeatures, sizes: Sizes, fingerprint: str, taken: set[str] | None, base: str
) -> Iterator[dict[str, Any]]:
    model, _, version = fingerprint.partition("/sha256:")
    common = {"name": model, "version": f"sha256:{version}" if version else fingerprint, "fingerprint": fingerprint}
    wholes = batch.global_features.float().cpu().numpy()
    for row, image_id in enumerate(batch.ids):
        if taken is not None and image_id not in taken:
            continue
        size, name = sizes.get(image_id), f"{base}/vector/{quote(image_id, safe='')}"
        whole = image_id if size is None else {"id": image_id, "type": "Canvas", "width": size[0], "height": size[1]}
        yield _vector(f"{name}/whole", whole, wholes[row], common)
        if batch.regions is None or batch.boxes is None:
            continue
        start, end = (int(batch.regions.offsets[place]) for place in (row, row + 1))
        vectors, boxes = batch.regions.values[start:end].float().cpu().numpy(), batch.boxes[start:end].tolist()
        for number, (vector, box) in enumerate(zip(vectors, boxes)):
            fragment = {"type": "FragmentSelector", "conformsTo": MEDIA_FRAGMENTS, "value": selector(box, size)}
            target = {"type": "SpecificResource", "source": whole, "selector": fragment}
            yield _vector(f"{name}/region/{number}", target, vector, common)


def _vector(name: str, target: str | dict[str, Any], vector: Any, model: Mapping[str, str]) -> dict[str, Any]:
    # Unit rows again: a store rounds them, and int8 keeps them in 127ths.
    values = np.ascontiguousarray(vector / max(float(np.linalg.norm(vector)), 1e-12), dtype="<f4")
    body = {
        "type": "EmbeddingVector",
        "vectorEncoding": "base64",
        "vector": base64.b64encode(values.tobytes()).decode(),
        "model": {
            **model,
            "dimensions": len(values),
            "dataType": "float32",
            "endianness": "little",
            "type": "multimodal",
            "normalization": True,
        },
    }
    return {"id": name, "type": "Annotation", "motivation": "embedding", "body": body, "target": target}
