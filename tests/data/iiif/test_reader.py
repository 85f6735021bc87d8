"""Manifests and collections of both versions as data sets, from files and from a server."""

from __future__ import annotations

import json
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from heritage_align.data import read_iiif
from heritage_align.data.iiif.reader import is_iiif
from heritage_align.data.iiif.resources import Resources, is_remote
from heritage_align.data.iiif.texts import in_languages, without_markup
from heritage_align.errors import DataError, ImageError, Note

from .conftest import P2, P3, Site, manifest_2, manifest_3, picture


def test_a_manifest_of_version_3(folder: Path) -> None:
    found = read_iiif(folder / "manifest.json")
    assert found.name == "蓝地缠枝莲纹锦"
    assert found.image_ids == ("https://example.org/object/canvas/0", "https://example.org/object/canvas/1")
    assert found.canvas_sizes[found.image_ids[0]] == (1280, 800)
    assert set(found.artwork_of.values()) == {"https://example.org/object/manifest.json"}
    np.testing.assert_array_equal(np.asarray(found.load_image(found.image_ids[0])), np.asarray(picture()))
    texts = {(item.language, item.text): item.image_ids for item in found.texts}
    assert texts["zh", "蓝地缠枝莲纹锦"] == found.image_ids
    assert texts["en", "Woven in Suzhou & worn at court."] == found.image_ids
    assert texts["zh", "年代: 清; 乾隆"] == texts["en", "Date: 18th century"] == found.image_ids
    assert texts[None, "Inventory: A.1"] == found.image_ids
    assert texts["zh", "第1圖"] == texts["en", "view 1"] == found.image_ids[1:]
    assert len({item.id for item in found.texts}) == len(found.texts) == 10


def test_texts_of_one_language_and_kind(folder: Path) -> None:
    english = read_iiif(folder / "manifest.json", language="en", texts=("label",))
    assert [item.text for item in english.texts] == ["view 0", "view 1", "Brocade with lotus scrolls"]


def test_a_manifest_of_version_2(folder: Path) -> None:
    document = json.dumps(manifest_2("https://example.org/o")).replace("https://example.org/o/img", "img")
    (folder / "two.json").write_text(document, encoding="utf-8")
    found = read_iiif(folder / "two.json")
    assert found.image_ids == ("https://example.org/o/canvas/0", "https://example.org/o/canvas/1")
    assert found.load_image(found.image_ids[1]).size == (640, 400)
    texts = {(item.language, item.text) for item in found.texts}
    expected = {("zh", "蓝地缠枝莲纹锦"), ("en", "Brocade"), (None, "A brocade"), ("zh", "Date: 清")}
    assert expected | {(None, "Date: 18th century"), (None, "fol. 0")} <= texts


@pytest.mark.parametrize("version", [2, 3])
def test_a_collection_of_files(version: int, folder: Path) -> None:
    """A collection that names a file, holds a whole manifest, and names a collection that names itself again."""
    whole = (manifest_2 if version == 2 else manifest_3)("https://example.org/whole", 1)
    kind, key = ("sc:Manifest", "@id") if version == 2 else ("Manifest", "id")
    members = [{key: "manifest.json", "type": kind, "@type": kind, "label": "named"}, whole]
    inner = {key: "inner.json", "type": "Collection", "@type": "sc:Collection"}
    lists = {"manifests": members, "collections": [inner]} if version == 2 else {"items": [*members, inner]}
    for name in ("all.json", "inner.json"):
        head = {"@context": P2 if version == 2 else P3, key: name, "label": "all"}
        (folder / name).write_text(json.dumps({**head, "type": "Collection", "@type": "sc:Collection", **lists}))
    found = read_iiif(folder / "all.json")
    assert len(found.image_ids) == 3
    assert len(set(found.artwork_of.values())) == 2


def test_nothing_is_fetched_unless_it_is_allowed(site: Site, tmp_path: Path) -> None:
    site.files["/manifest.json"] = json.dumps(manifest_3(site.base)).encode()
    (tmp_path / "manifest.json").write_bytes(site.files["/manifest.json"])
    found = read_iiif(tmp_path / "manifest.json")
    with pytest.raises(ImageError, match=r"canvas/0: .*img0\.png: is on the web; --allow-network .*fetches it"):
        found.load_image(found.image_ids[0])
    with pytest.raises(DataError, match="--allow-network"):
        read_iiif(f"{site.base}/manifest.json")
    assert not site.asked


def test_what_is_fetched_is_kept(site: Site, tmp_path: Path) -> None:
    site.files["/manifest.json"] = json.dumps(manifest_3(site.base)).encode()
    (tmp_path / "img.png").parent.mkdir(exist_ok=True)
    picture().save(tmp_path / "img.png")
    for number in range(2):
        site.files[f"/img{number}.png"] = (tmp_path / "img.png").read_bytes()
    address, cache = f"{site.base}/manifest.json", tmp_path / "cache"
    found = read_iiif(address, allow_network=True, cache=cache)
    with ThreadPoolExecutor(8) as pool:
        images = list(pool.map(found.load_image, found.image_ids * 8))
    assert {image.size for image in images} == {(640, 400)}
    asked = len(site.asked)
    again = read_iiif(address, cache=cache)
    assert again.texts == found.texts
    assert again.load_image(again.image_ids[1]).tobytes() == images[1].tobytes()
    assert len(site.asked) == asked


def test_a_busy_server_is_asked_again_and_a_fault_is_named(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heritage_align.data.iiif.resources._WAIT", (0.0, 0.0))
    site.files["/manifest.json"] = json.dumps(manifest_3(site.base)).encode()
    site.faults["/manifest.json"] = [503, 429]
    found = read_iiif(f"{site.base}/manifest.json", allow_network=True)
    site.faults["/img0.png"] = [500] * 9
    with pytest.raises(ImageError, match=r"img0\.png: the server answers HTTP 500"):
        found.load_image(found.image_ids[0])
    with pytest.raises(ImageError, match=r"img1\.png: there is no such thing \(HTTP 404\)"):
        found.load_image(found.image_ids[1])
    site.redirects["/img1.png"] = "file:///etc/passwd"
    with pytest.raises(ImageError, match=r"img1\.png: the server answers HTTP 302 .*not allowed"):
        found.load_image(found.image_ids[1])
    with pytest.raises(DataError, match="cannot be fetched"):
        read_iiif("http://127.0.0.1:9/manifest.json", allow_network=True)


def test_a_manifest_of_the_web_reads_no_files(site: Site) -> None:
    site.files["/manifest.json"] = json.dumps(
        manifest_3(site.base, 1, lambda _: {"id": "file:///etc/passwd", "type": "Image"})
    ).encode()
    found = read_iiif(f"{site.base}/manifest.json", allow_network=True)
    with pytest.raises(ImageError, match="is a file, and the manifest is of the web"):
        found.load_image(found.image_ids[0])


def test_a_file_names_nothing_outside_its_folder(folder: Path) -> None:
    for name in ("/etc/passwd", "../img0.png", "file:///etc/passwd"):
        document = manifest_3("https://example.org/o", 1, lambda _, name=name: {"id": name, "type": "Image"})
        (folder / "out.json").write_text(json.dumps(document))
        found = read_iiif(folder / "out.json")
        with pytest.raises(ImageError, match=r"canvas/0: .*set data\.images"):
            found.load_image(found.image_ids[0])


def body(kind: str) -> dict[str, Any]:
    image = {"id": "img0.png", "type": "Image"}
    return {
        "choice": {"type": "Choice", "items": [image, {"id": "img1.png", "type": "Image"}]},
        "part": {
            "type": "SpecificResource",
            "source": image,
            "selector": {"type": "ImageApiSelector", "rotation": "0"},
        },
        "old choice": {"@type": "oa:Choice", "default": image, "item": [{"@id": "img1.png", "@type": "dctypes:Image"}]},
    }[kind]


@pytest.mark.parametrize("kind", ["choice", "part", "old choice"])
def test_choices_and_parts(kind: str, folder: Path) -> None:
    (folder / "m.json").write_text(json.dumps(manifest_3("https://example.org/o", 1, lambda _: body(kind))))
    found = read_iiif(folder / "m.json")
    assert found.load_image(found.image_ids[0]).tobytes() == picture().tobytes()


def test_the_picture_that_covers_the_canvas_is_taken(folder: Path) -> None:
    document = manifest_3("https://example.org/o", 1, lambda _: {"id": "img0.png", "type": "Image"})
    items = document["items"][0]["items"][0]["items"]
    detail = json.loads(json.dumps(items[0]))
    detail["target"] += "#xywh=10,10,50,50"
    detail["body"]["id"] = "img1.png"
    items.insert(0, detail)
    (folder / "m.json").write_text(json.dumps(document))
    found = read_iiif(folder / "m.json")
    assert found.load_image(found.image_ids[0]).tobytes() == picture().tobytes()


def test_canvases_without_a_picture_are_counted(folder: Path) -> None:
    document = manifest_3("https://example.org/o", 3, lambda n: {"id": "img0.png", "type": "Sound" if n else "Image"})
    (folder / "m.json").write_text(json.dumps(document))
    with pytest.warns(Note, match="2 canvases without a picture left out"):
        assert len(read_iiif(folder / "m.json").image_ids) == 1


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        ({"@context": "http://iiif.io/api/image/3/context.json", "type": "ImageService3"}, "imageservice3"),
        ({"@context": ["http://www.w3.org/ns/anno.jsonld", "http://iiif.io/api/presentation/3/context.json"],
          "type": "Canvas"}, "canvas"),
        ({"@context": "http://iiif.io/api/image/2/context.json", "width": 9}, "an object without a type"),
    ],
)  # fmt: skip
def test_another_document_of_iiif_is_no_table(document: dict[str, Any], kind: str, tmp_path: Path) -> None:
    (tmp_path / "info.json").write_text(json.dumps(document))
    assert is_iiif(tmp_path / "info.json")
    with pytest.raises(DataError, match=f"info.json: is no IIIF manifest or collection, but {kind}"):
        read_iiif(tmp_path / "info.json")
    (tmp_path / "info.json").write_text(json.dumps([document]))
    assert not is_iiif(tmp_path / "info.json")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_manifests_of_other_encodings(encoding: str, folder: Path) -> None:
    document = json.dumps(manifest_3("https://example.org/o", 2))
    (folder / "m.json").write_text(document, encoding=encoding)
    assert is_iiif(folder / "m.json")
    assert len(read_iiif(folder / "m.json").image_ids) == 2


def test_collections_without_end_are_said(folder: Path) -> None:
    document: Any = manifest_3("https://example.org/o", 2)
    for number in range(30):
        document = {"id": f"https://example.org/c{number}", "type": "Collection", "items": [document]}
    (folder / "m.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match=r"no canvas that shows a picture: .* is more than 20 collections deep"):
        read_iiif(folder / "m.json")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is not JSON"),
        (b"\xff\xfe\x00", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", "is no IIIF manifest or collection, but list"),
        (b'{"type": "AnnotationPage", "items": []}', "but annotationpage"),
        (b'{"type": "Manifest"}', "holds no canvas that shows a picture"),
        (
            b'{"type": "Collection", "items": [{"id": "gone.json", "type": "Manifest"}]}',
            r"holds no canvas.*gone\.json: no",
        ),
        (b'{"type": "Collection", "items": [{"id": "https://example.org/m", "type": "Manifest"}]}', "--allow-network"),
    ],
)
def test_what_is_no_manifest_is_refused_by_name(content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "清.json").write_bytes(content)
    with pytest.raises(DataError, match=f"清.json: .*{reason}"):
        read_iiif(tmp_path / "清.json")
    with pytest.raises(DataError, match="no such file"):
        read_iiif(tmp_path / "none.json")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "@value", "zh", "type"]), inner),
    max_leaves=6,
)


@st.composite
def damaged(draw: st.DrawFn) -> Any:
    """Put anything in the place of anything in a manifest."""
    make = draw(st.sampled_from([manifest_2, manifest_3]))
    service = [{"id": "tiles", "type": "ImageService3", "profile": "level0"}]
    document = make("https://example.org/o", 2) if draw(st.booleans()) else manifest_2("o", 2, lambda _: service)
    for _ in range(draw(st.integers(1, 4))):
        place: Any = document
        while isinstance(place, (dict, list)) and place:
            key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
            if not isinstance(place[key], (dict, list)) or draw(st.integers(0, 4)) == 0:
                place[key] = draw(JSON)
                break
            place = place[key]
    return document


@settings(
    max_examples=400, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(document=damaged())
def test_a_damaged_manifest_is_read_or_refused(document: Any, tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text(json.dumps(document), encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Note)
        try:
            found = read_iiif(tmp_path / "m.json")
        except DataError as error:
            assert "m.json" in str(error)  # noqa: PT017
            return
    for image_id in found.image_ids:
        with pytest.raises(ImageError):
            found.load_image(image_id)


def test_markup_and_languages() -> None:
    assert without_markup("a<br/>b &lt;c&gt; <script>x</script>") == "a b <c> x"
    assert without_markup("5 < 6 & 7") == "5 < 6 & 7"
    assert without_markup("a<!-- <b> -->b<P class='x'>c</p>d <?x y?><!DOCTYPE html>&amp;eacute;") == "ab cd &eacute;"
    assert without_markup("<![ a<!--b <b") == "<![ a<!--b <b"
    assert without_markup(f"&#{'9' * 5000};") == f"&#{'9' * 5000};"
    for unclosed in ("<a ", "<!--", "<a b='", "<!", "<![", "<"):  # Python's parser takes time with their square
        assert without_markup(unclosed * 30_000).startswith(unclosed.strip())
    assert list(in_languages({"zh-Hant": ["青花"], "@none": "x", "none": [3]})) == [
        ("zh", "青花"),
        (None, "x"),
        (None, "3"),
    ]
    assert list(in_languages([{"@value": "a", "@language": "fr"}, "b", None, {"@value": ""}])) == [
        ("fr", "a"),
        (None, "b"),
    ]


def test_pictures_keep_their_bytes(folder: Path) -> None:
    found = read_iiif(folder / "manifest.json")
    file = found.image_file(found.image_ids[0])
    assert file.source == folder / "img0.png"
    assert file.name == f"{found.image_ids[0]} (img0.png)"
    assert Image.open(folder / "img0.png").size == (640, 400)


@pytest.mark.parametrize(
    "change",
    [
        {"label": "[" * 400 + "1" + "]" * 400},
        {"items.0.service": '["http://[", 3, [], {"profile": [[]]}]'},
        {"items.0.id": '"http://["'},
        {"items.0.id": '"p\\ud800.png"'},
        {"items.0.service": '"\\ud800"'},
        {"items.0.type": '"Choice"', "items.0.items": '[{"type": "Choice", "items": ' * 300 + "[]" + "}]" * 300},
        {"label": '{"\\ud800": ["a"]}'},
    ],
)
def test_what_a_manifest_should_not_hold(change: dict[str, str], tmp_path: Path) -> None:
    """Nothing but a picture is missing: an address that is none, other types, what is nested without end."""
    document = manifest_3("https://example.org/o", 2, lambda n: {"id": f"img{n}.png", "type": "Image"})
    body = document["items"][0]["items"][0]["items"][0]["body"]
    for number, name in enumerate(change):
        (body if name.startswith("items.0.") else document)[name.rpartition(".")[2]] = f"@{number}@"
    text = json.dumps(document)
    for number, value in enumerate(change.values()):
        text = text.replace(f'"@{number}@"', value)
    (tmp_path / "m.json").write_text(text)
    picture().save(tmp_path / "img1.png")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Note)
        found = read_iiif(tmp_path / "m.json", cache=tmp_path / "cache")
    assert found.load_image(found.image_ids[-1]).size == (640, 400)
    for item in found.texts:
        f"{item.id}{item.text}{item.language}".encode()
    if len(found.image_ids) == 2:
        with suppress(ImageError):
            found.load_image(found.image_ids[0])


def test_what_is_no_address_is_no_file_either(tmp_path: Path) -> None:
    assert is_remote(" HTTPS://a/b")
    assert not is_remote("file:///a")
    with pytest.raises(DataError, match=r"http://\[: cannot be read: .* is no address: Invalid IPv6 URL"):
        read_iiif("http://[")
    with pytest.raises(ImageError, match="is no address"):
        Resources(tmp_path, base="https://a/b", allow_network=False, cache=None, timeout=1).place("//[")
