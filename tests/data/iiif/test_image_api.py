"""Sizes and tiles of the Image API: what is asked for is what a server of that level gives out."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from heritage_align.data import read_iiif
from heritage_align.data.iiif.image_api import plan, read_info
from heritage_align.errors import ImageError

from .conftest import INFOS, Site, manifest_2, manifest_3, picture, served


@pytest.mark.parametrize(
    ("service", "side", "size", "requests"),
    [
        ("level2-3", 320, (320, 200), ["full/320,200"]),
        ("level2-3", 4000, (640, 400), ["full/max"]),
        ("level1-2", 4000, (320, 200), ["full/320,"]),
        ("level1-2", 100, (100, 63), ["full/100,"]),
        ("level1-1", 320, (320, 200), ["full/320,"]),
        ("sizes-3", 300, (320, 200), ["full/320,200"]),
        ("sizes-3", 600, (640, 400), None),
        ("tiles-3", 300, (320, 200), ["0,0,512,400/256,200", "512,0,128,400/64,200"]),
        ("tiles-3", 160, (160, 100), ["full/max", "full/160,100"]),
        ("tiles-2", 300, (320, 200), ["0,0,512,400/256,", "512,0,128,400/64,"]),
        ("tiles-2", 4000, (640, 400), None),
    ],
)
def test_the_smallest_that_is_large_enough(
    service: str, side: int, size: tuple[int, int], requests: list[str] | None, site: Site
) -> None:
    address = f"{site.base}/iiif/{service}"
    kind = {"id": address, "@id": address, "type": "ImageService3", "profile": "http://iiif.io/api/image/2/level0.json"}
    document = manifest_2(site.base, 1, lambda _: kind)
    site.files["/manifest.json"] = json.dumps(document).encode()
    found = read_iiif(f"{site.base}/manifest.json", allow_network=True, side=side)
    site.asked.clear()
    image = found.load_image(found.image_ids[0])
    assert image.size == size
    difference = np.asarray(image, int) - np.asarray(picture().resize(size, Image.Resampling.BOX), int)
    assert np.abs(difference).mean() < 2
    if requests is not None:
        given_out = [path.removeprefix(f"/iiif/{service}/").rsplit("/0/")[0] for path in site.asked[1:]]
        assert [name for name in given_out if name in requests][-1] == requests[-1]
        assert len(given_out) <= len(requests) + 1


def test_files_of_level_0_on_a_disk(tmp_path: Path) -> None:
    """Tiles as a static generator writes them, made for an address that they are not at."""
    info = {**INFOS["tiles-3"], "id": "https://elsewhere.example.org/tiles"}
    folder = tmp_path / "tiles"
    folder.mkdir()
    (folder / "info.json").write_text(json.dumps(info))
    for factor in (1, 2, 4):
        side = 256 * factor
        for x in range(0, 640, side):
            for y in range(0, 400, side):
                width, height = min(side, 640 - x), min(side, 400 - y)
                region, size = f"{x},{y},{width},{height}", f"{math.ceil(width / factor)},{math.ceil(height / factor)}"
                file = folder / region / size / "0" / "default.jpg"
                file.parent.mkdir(parents=True)
                data = served("tiles-3", INFOS["tiles-3"], region, size)
                assert data is not None
                file.write_bytes(data)
    service = {"id": "tiles", "type": "ImageService3", "profile": "level0"}
    document = manifest_3(
        "https://example.org/o", 1, lambda _: {"id": "none.jpg", "type": "Image", "service": [service]}
    )
    (tmp_path / "m.json").write_text(json.dumps(document))
    for side, size in ((4000, (640, 400)), (300, (320, 200)), (90, (160, 100))):
        found = read_iiif(tmp_path / "m.json", side=side)
        image = found.load_image(found.image_ids[0])
        assert image.size == size
        difference = np.asarray(image, int) - np.asarray(picture().resize(size, Image.Resampling.BOX), int)
        assert np.abs(difference).mean() < 2


def test_a_service_that_is_gone_leaves_the_picture(site: Site) -> None:
    service = [{"id": f"{site.base}/iiif/none", "type": "ImageService3", "profile": "level2"}]
    body = {"id": f"{site.base}/iiif/level2-3/full/max/0/default.jpg", "type": "Image", "service": service}
    site.files["/manifest.json"] = json.dumps(manifest_3(site.base, 1, lambda _: body)).encode()
    found = read_iiif(f"{site.base}/manifest.json", allow_network=True)
    assert found.load_image(found.image_ids[0]).size == (640, 400)


@pytest.mark.parametrize("document", [None, [], {}, {"width": 0, "height": 9}, {"width": "640", "height": 400}])
def test_an_info_without_a_size_is_refused(document: object) -> None:
    with pytest.raises(ImageError, match=r"^https://example.org/i: its info.json"):
        read_info(document, "https://example.org/i")


@given(
    width=st.integers(1, 5000), height=st.integers(1, 5000), tile=st.integers(1, 700), side=st.integers(1, 6000),
    factors=st.lists(st.sampled_from([1, 2, 4, 8, 16]), min_size=1, unique=True),
)  # fmt: skip
def test_tiles_cover_the_picture_once(width: int, height: int, tile: int, side: int, factors: list[int]) -> None:
    tile = max(tile, math.ceil(max(width, height) / 40))
    info = {"width": width, "height": height, "profile": "level0", "tiles": [{"width": tile, "scaleFactors": factors}]}
    planned = plan(read_info(info, "i"), side)
    assert planned.size is not None
    longest, factor = max(width, height), max(width, height) / max(planned.size)
    assert max(planned.size) >= min(side, longest) or factor <= min(factors)
    covered = 0
    for request in planned.requests:
        region, size = request.addresses[-1].split("/")[1:3]
        assert request.place[0] < planned.size[0]
        assert request.place[1] < planned.size[1]
        covered += math.prod(int(part) for part in region.split(",")[2:]) if region != "full" else width * height
        assert size
    assert covered == width * height


@pytest.mark.parametrize(
    "tiles",
    [
        {"width": 2**31 - 1, "height": 2**31 - 1, "tiles": [{"width": 8, "scaleFactors": [1]}]},
        {"width": 2**31 - 1, "height": 8, "tile_width": 1, "scale_factors": [1]},
        {"width": 40_000, "height": 40_000, "tiles": [{"width": 40_000, "scaleFactors": [1]}]},  # 1.6 * 10^9 pixels
    ],
)
def test_tiles_without_end_are_not_asked_for(tiles: dict[str, object]) -> None:
    with pytest.raises(ImageError, match=r"^i: gives no less than \d+ tiles of \d+ x \d+ pixels; the most are 4096"):
        plan(read_info(tiles, "i"), 1024)


def test_an_info_of_other_types_is_read_or_refused() -> None:
    nested: list[object] = []
    for _ in range(5000):
        nested = [nested]
    info = read_info({"width": 9, "height": 9, "@context": nested, "type": nested, "id": "\ud800"}, "i")
    assert (info.id, info.version) == ("i", 1)
