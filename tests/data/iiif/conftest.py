"""Manifests that the tests make, and a server that gives them and their pictures out."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from PIL import Image, ImageDraw

P3 = "http://iiif.io/api/presentation/3/context.json"
P2 = "http://iiif.io/api/presentation/2/context.json"


def picture(size: tuple[int, int] = (640, 400)) -> Image.Image:
    image = Image.new("RGB", size, "navy")
    draw = ImageDraw.Draw(image)
    draw.ellipse([size[0] // 8, size[1] // 8, size[0] // 2, size[1] // 2], fill="gold")
    draw.rectangle([size[0] // 2, size[1] // 2, size[0] - 20, size[1] - 10], fill="maroon")
    return image


def manifest_3(base: str, count: int = 2, body: Callable[[int], dict[str, Any]] | None = None) -> dict[str, Any]:
    def plain(number: int) -> dict[str, Any]:
        return {"id": f"{base}/img{number}.png", "type": "Image", "format": "image/png", "width": 640, "height": 400}

    def canvas(number: int) -> dict[str, Any]:
        name = f"{base}/canvas/{number}"
        painting = {
            "id": f"{name}/painting",
            "type": "Annotation",
            "motivation": "painting",
            "body": (body or plain)(number),
            "target": name,
        }
        page = {"id": f"{name}/page", "type": "AnnotationPage", "items": [painting]}
        label = {"zh-Hant": [f"第{number}圖"], "en": [f"view {number}"]}
        return {"id": name, "type": "Canvas", "label": label, "width": 1280, "height": 800, "items": [page]}

    return {
        "@context": P3,
        "id": f"{base}/manifest.json",
        "type": "Manifest",
        "label": {"zh": ["蓝地缠枝莲纹锦"], "en": ["Brocade with lotus scrolls"]},
        "summary": {"en": ["<p>Woven in <b>Suzhou</b> &amp; worn at court.</p>"]},
        "metadata": [
            {"label": {"en": ["Date"], "zh": ["年代"]}, "value": {"en": ["18th century"], "zh": ["清", "乾隆"]}},
            {"label": {"en": ["Inventory"]}, "value": {"none": ["A.1"]}},
        ],
        "items": [canvas(number) for number in range(count)],
    }


def manifest_2(base: str, count: int = 2, service: Callable[[int], Any] | None = None) -> dict[str, Any]:
    def canvas(number: int) -> dict[str, Any]:
        resource: dict[str, Any] = {"@id": f"{base}/img{number}.png", "@type": "dctypes:Image"}
        if service is not None:
            resource["service"] = service(number)
        name = f"{base}/canvas/{number}"
        image = {"@type": "oa:Annotation", "motivation": "sc:painting", "on": name, "resource": resource}
        return {
            "@id": name,
            "@type": "sc:Canvas",
            "label": f"fol. {number}",
            "width": 1280,
            "height": 800,
            "images": [image],
        }

    return {
        "@context": P2,
        "@id": f"{base}/manifest.json",
        "@type": "sc:Manifest",
        "label": [{"@value": "蓝地缠枝莲纹锦", "@language": "zh"}, {"@value": "Brocade", "@language": "en-GB"}],
        "description": "A <i>brocade</i>",
        "metadata": [{"label": "Date", "value": [{"@value": "清", "@language": "zh"}, "18th century"]}],
        "sequences": [{"@type": "sc:Sequence", "canvases": [canvas(number) for number in range(count)]}],
    }


class Site:
    """A server of the web: files by their paths, an image service below ``/iiif/<level>``, and what it was asked."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, list[int]] = {}
        self.asked: list[str] = []
        self.redirects: dict[str, str] = {}
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append(self.path)
                if self.path in site.redirects:
                    self.send_response(302)
                    self.send_header("Location", site.redirects[self.path])
                    self.end_headers()
                    return
                faults = site.faults.get(self.path, [])
                data = None if faults else site.files.get(self.path) or site.service(self.path)
                code = faults.pop(0) if faults else 200 if data is not None else 404
                self.send_response(code)
                self.end_headers()
                if code == 200 and data is not None:
                    self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.base = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def service(self, path: str) -> bytes | None:
        """Answer as an image service that gives out what its info.json offers, and nothing else."""
        found = re.fullmatch(r"/iiif/([a-z0-9-]+)/(?:info\.json|([^/]+)/([^/]+)/0/(default|native)\.jpg)", path)
        if found is None or found[1] not in INFOS:
            return None
        info = {**INFOS[found[1]], key_of_id(found[1]): f"{self.base}/iiif/{found[1]}"}
        if found[2] is None:
            return json.dumps(info).encode()
        return served(found[1], info, found[2], found[3])


def key_of_id(kind: str) -> str:
    return "id" if kind.endswith("3") else "@id"


SIZE = {"width": 640, "height": 400}
TILES = [{"width": 256, "height": 256, "scaleFactors": [1, 2, 4]}]
INFOS: dict[str, dict[str, Any]] = {
    "level2-3": {
        "@context": "http://iiif.io/api/image/3/context.json",
        "type": "ImageService3",
        "profile": "level2",
        **SIZE,
    },
    "level1-2": {
        "@context": "http://iiif.io/api/image/2/context.json",
        "profile": ["http://iiif.io/api/image/2/level1.json", {"maxWidth": 320}],
        **SIZE,
    },
    "sizes-3": {
        "@context": "http://iiif.io/api/image/3/context.json",
        "profile": "level0",
        "sizes": [{"width": 80, "height": 50}, {"width": 320, "height": 200}],
        "tiles": TILES,
        **SIZE,
    },
    "tiles-3": {"@context": "http://iiif.io/api/image/3/context.json", "profile": "level0", "tiles": TILES, **SIZE},
    "tiles-2": {
        "@context": "http://iiif.io/api/image/2/context.json",
        "profile": ["http://iiif.io/api/image/2/level0.json"],
        "tiles": TILES,
        **SIZE,
    },
    "level1-1": {
        "@context": "http://library.stanford.edu/iiif/image-api/1.1/context.json",
        "profile": "http://library.stanford.edu/iiif/image-api/1.1/compliance.html#level1",
        **SIZE,
    },
}


def served(kind: str, info: dict[str, Any], region: str, size: str) -> bytes | None:
    box = (0, 0, 640, 400) if region == "full" else tuple(int(part) for part in region.split(","))
    whole = picture()
    part = whole.crop((box[0], box[1], box[0] + box[2], box[1] + box[3]))
    width, _, height = size.partition(",")
    wanted = part.size if size in ("max", "full") else (int(width), int(height) if height else None)
    if wanted[1] is None:
        wanted = (wanted[0], max(1, math.ceil(wanted[0] * part.height / part.width)))
    if "level0" in str(info["profile"]):
        offered = {(entry["width"], entry["height"]) for entry in info.get("sizes", ())} if region == "full" else set()
        for tile in info.get("tiles", ()):
            for factor in tile["scaleFactors"]:
                side = tile["width"] * factor
                fits = box[0] % side == box[1] % side == 0
                if fits and box[2:] == (min(side, 640 - box[0]), min(side, 400 - box[1])):
                    offered.add((math.ceil(box[2] / factor), math.ceil(box[3] / factor)))
        canonical = ("," in size and not size.endswith(",")) if kind.endswith("3") else size.endswith(",")
        if wanted not in offered or not canonical:
            return None
    limit = next((entry["maxWidth"] for entry in info["profile"] if isinstance(entry, dict)), None)
    if limit is not None and wanted[0] > limit:
        return None
    buffer = io.BytesIO()
    part.resize(wanted, Image.Resampling.BOX).save(buffer, "JPEG", quality=98, subsampling=0)
    return buffer.getvalue()


@pytest.fixture
def site() -> Iterator[Site]:
    running = Site()
    yield running
    running.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A manifest of version 3 with relative names, and its pictures, on a disk."""
    for number in range(2):
        picture().rotate(180 * number).save(tmp_path / f"img{number}.png")
    document = json.dumps(manifest_3("https://example.org/object")).replace("https://example.org/object/img", "img")
    (tmp_path / "manifest.json").write_text(document, encoding="utf-8")
    return tmp_path
