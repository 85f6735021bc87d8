"""Names and paths as museums have them: Unicode forms, case, addresses, other computers; files that are no pictures."""

from __future__ import annotations

import io
import sys
import unicodedata
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from heritage_align.data import images, read_folder, read_table
from heritage_align.data.images import load_image
from heritage_align.data.pictures import FileNames, FilePictures, path_below
from heritage_align.data.pixels import load_pixels
from heritage_align.errors import DataError, ImageError, Note

NFC, NFD = (unicodedata.normalize(form, "Musée/Gravé à l'or.PNG") for form in ("NFC", "NFD"))


def draw(path: Path, colour: str = "navy") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (9, 9), colour).save(path)
    return path


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        (NFD, NFC),
        (NFC, NFD),
        ("IMG/Blue Vase.JPG", "img/blue vase.jpg"),
        ("img/BLAU ÜBER.png", unicodedata.normalize("NFD", "Img/blau über.PNG")),
        ("img/が.png", unicodedata.normalize("NFD", "img/が.png")),
        ("img/vase\u200b.png", "img/vase.png"),
        ("img/vase.png", "img/va\u2060se.png"),
    ],
)
def test_a_name_in_another_form_is_found(written: str, asked: str, tmp_path: Path) -> None:
    there = draw(tmp_path / written)
    pictures = FilePictures({"a": tmp_path / asked})
    pictures.require_one()
    assert pictures.read("a") == there
    load_image(pictures.read("a"))


def test_the_exact_name_comes_first_and_what_is_ambiguous_is_said(tmp_path: Path) -> None:
    one, other = draw(tmp_path / "A.png"), draw(tmp_path / "a.png", "red")
    pictures = FilePictures({"one": one, "other": other, "odd": tmp_path / "A.PNG", "none": tmp_path / "b.png"})
    assert (pictures.read("one"), pictures.read("other")) == (one, other)
    with pytest.raises(ImageError, match=r"A\.PNG: no such file, and several that are called nearly so: A\.png"):
        pictures.read("odd")
    with pytest.raises(ImageError, match=r"b\.png: no such file"):
        load_image(pictures.read("none"))


def test_a_file_that_a_table_writes_in_two_ways_is_one_picture(tmp_path: Path) -> None:
    draw(tmp_path / "img/1.png"), draw(tmp_path / NFD), draw(tmp_path / "two/A.png"), draw(tmp_path / "two/a.png")
    names = ["img/1.png", "IMG/1.PNG", NFC, NFD, "two/A.png", "two/a.png", "none/x.png", "none/X.png"]
    rows = [f"{name},text {number}" for number, name in enumerate(names)]
    (tmp_path / "t.csv").write_text("\n".join(["image,text", *rows]), encoding="utf-8")
    found = read_table(tmp_path / "t.csv")
    assert found.image_ids == ("img/1.png", NFC, "two/A.png", "two/a.png", "none/x.png", "none/X.png")
    assert [item.id for item in found.texts][:4] == ["img/1.png#0", "img/1.png#1", f"{NFC}#0", f"{NFC}#1"]
    assert found.load_image(NFC).size == (9, 9)


def test_ids_stay_as_the_table_has_them(tmp_path: Path) -> None:
    draw(tmp_path / NFD)
    (tmp_path / "t.csv").write_text(f"image,text\n{NFC},gold\n", encoding="utf-8")
    table = read_table(tmp_path / "t.csv")
    assert table.image_ids == (NFC,)
    assert table.load_image(NFC).size == (9, 9)


def test_paths_and_addresses_inside_the_folder(tmp_path: Path) -> None:
    root = tmp_path / "big # collection"
    file = draw(root / "img" / "a b%.png")
    link = tmp_path / "link"
    link.symlink_to(root)
    for base, named in [
        (root, str(file)),
        (root, file.as_uri()),
        (root, file.as_uri().replace("file://", "FILE://localhost")),
        (root, f"file:{file.as_uri()[7:]}"),
        (root, "file:img/a%20b%25.png"),
        (link, str(file)),
        (link, str(link / "img" / "a b%.png")),
        (root, r"img\a b%.png"),
    ]:
        image_id, found = path_below(base, named)
        assert image_id == "img/a b%.png", named
        assert found.is_file(), named


@pytest.mark.parametrize(
    "named", ["/etc/passwd", "file:///etc/passwd", "../x.png", "img/../../x.png", "file:../x.png", "/"]
)
def test_paths_out_of_the_folder_are_refused_by_the_setting(named: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"set data\.images to a folder that holds"):
        path_below(tmp_path, named)


@pytest.mark.parametrize(
    ("named", "prefix"),
    [
        (r"D:\museum\scans\img\a.png", "D:/museum/scans"),
        (r"\\server\share\img\a.png", "//server/share"),
        ("file:///D:/museum/img/a.png", "D:/museum"),
        ("file://server/share/img/a.png", "//server/share"),
        ("c:img/a.png", "c:img"),
    ],
)
def test_paths_of_another_computer_say_the_setting_that_reads_them(named: str, prefix: str, tmp_path: Path) -> None:
    draw(tmp_path / "img" / "a.png")
    with pytest.raises(ValueError, match=f"--set 'data.prefix={prefix}'"):
        path_below(tmp_path, named)
    if not named.startswith(("file:", "c:")):
        assert path_below(tmp_path, named, prefix=prefix)[0] == "img/a.png"
        assert path_below(tmp_path, named, prefix=prefix.replace("/", "\\").lower() + "\\")[0] == "img/a.png"


@pytest.mark.parametrize("named", ['"img/a.png"', "\u202aimg/a.png", '\u202a"img/a.png"\u202c', "img/a.png\u200b"])
def test_what_windows_leaves_around_a_copied_path_is_no_part_of_it(named: str, tmp_path: Path) -> None:
    assert path_below(tmp_path, named) == ("img/a.png", tmp_path / "img/a.png")
    drive = named.replace("img", r"D:\museum\img")
    assert path_below(tmp_path, drive, prefix=r"d:\MUSEUM")[0] == "img/a.png"
    assert path_below(tmp_path, '12".png')[0] == '12".png'


def test_a_beginning_in_other_letters_of_another_length(tmp_path: Path) -> None:
    assert path_below(tmp_path, r"D:\STRASSE\a.png", prefix=r"D:\Straße")[0] == "a.png"
    assert path_below(tmp_path, r"D:\Straße\a.png", prefix="d:/strasse/")[0] == "a.png"


def test_an_address_is_read_from_a_copy(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is an address"):
        path_below(tmp_path, "https://example.org/img/a.png")
    assert path_below(tmp_path, "https://example.org/img/a.png", prefix="https://example.org/")[0] == "img/a.png"
    with pytest.raises(ValueError, match="leads out of"):
        path_below(tmp_path, "https://example.org/../a.png", prefix="https://example.org/")
    with pytest.raises(ValueError, match="is an address"):
        path_below(tmp_path, "https://example.organ/a.png", prefix="https://example.org")


def test_what_systems_keep_beside_pictures_is_no_part_of_a_collection(tmp_path: Path) -> None:
    for name in (
        "vases/1.png",
        "vases/@eaDir/1.png/SYNOPHOTO_THUMB_XL.jpg",
        "$RECYCLE.BIN/2.png",
        "._3.png",
        ".x/4.png",
    ):
        draw(tmp_path / name)
    assert read_folder(tmp_path).image_ids == ("vases/1.png",)


def test_what_is_passed_over_is_counted(tmp_path: Path) -> None:
    for name in ("a.CR2", "sub/b.nef", "c.dng", "d.ARW", "e.psd", "notes.txt", ".hidden.cr2"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"II*\0")
    with pytest.raises(DataError, match=r"has no pictures that can be read: 4 RAW files passed over \(a\.CR2, "):
        read_folder(tmp_path)
    draw(tmp_path / "f.png")
    with pytest.warns(Note, match=r"4 RAW files passed over .*1 file of \.psd passed over \(e\.psd\)"):
        assert read_folder(tmp_path).image_ids == ("f.png",)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw(tmp_path / "clean" / "g.jfif.png")
        read_folder(tmp_path / "clean")


def tiff_with(tags: dict[int, object]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "TIFF", tiffinfo=tags)
    return buffer.getvalue()


@pytest.mark.parametrize("load", [load_image, load_pixels])
def test_raw_files_are_refused_whatever_their_thumbnail(load: object, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.nef", "TIFF")
    with pytest.raises(ImageError, match=r"a\.nef: is a camera's RAW file; develop"):
        load(tmp_path / "a.nef")  # type: ignore[operator]
    for tags in ({50706: b"\1\4\0\0"}, {254: 1, 330: 8}):
        with pytest.raises(ImageError, match="is a camera's RAW file"):
            load(tiff_with(tags))  # type: ignore[operator]
    assert np.asarray(load(tiff_with({254: 0}))).shape == (8, 8, 3)  # type: ignore[operator]


def test_heic_is_read_upright_with_its_extra(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif", reason="the optional extra 'heif' is not installed")
    image = Image.new("RGB", (64, 32), "maroon")
    image.paste("gold", (0, 0, 32, 32))
    exif = Image.Exif()
    exif[0x0112] = 6
    heif.from_pillow(image).save(tmp_path / "a.heic", quality=95, exif=exif.tobytes())
    found = load_image(tmp_path / "a.heic")
    assert found.size in ((32, 64), (64, 32))
    assert (load_pixels(tmp_path / "a.heic") == np.asarray(found)).all()
    assert read_folder(tmp_path).image_ids == ("a.heic",)


def test_heic_without_its_extra_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_formats", lambda: ("JPEG", "PNG"))
    head = (24).to_bytes(4, "big") + b"ftypheic" + bytes(4) + b"mif1heic" + bytes(40)
    with pytest.raises(ImageError, match=r"^it: is a HEIC picture, which needs pillow-heif: .*heritage-align\[heif\]"):
        load_image(head, name="it")
    with pytest.raises(ImageError, match=r"is an AVIF picture, which this build of Pillow does not read"):
        load_image(head.replace(b"heic", b"avif"), name="it")


def test_formats_go_without_pillow_heif(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    images._formats.cache_clear()
    try:
        assert "JPEG" in images._formats()
    finally:
        images._formats.cache_clear()


def test_a_path_of_too_many_folders_is_missing(tmp_path: Path) -> None:
    deep = "a/" * 1500 + "x.png"
    pictures = FilePictures({deep: tmp_path / deep})
    with pytest.raises(DataError, match="none of the 1 pictures exists"):
        pictures.require_one()
    with pytest.raises(ImageError, match="no such file"):
        load_image(pictures.read(deep))
    for named in ("C:\\" + "a\\" * 40_000 + "x.png", "//server/" + "a/" * 40_000 + "x.png"):
        with pytest.raises(ValueError, match="is an absolute path of another computer"):
            path_below(tmp_path, named)


def test_a_text_in_the_place_of_a_path_is_a_missing_picture(tmp_path: Path) -> None:
    """Names of more than 255 bytes are an error of the system, not just missing."""
    (tmp_path / "t.csv").write_text(f"image,text\n{'a long description, '.replace(',', ';') * 20},a.png\n")
    with pytest.raises(DataError, match="none of the 1 pictures exists"):
        read_table(tmp_path / "t.csv")
    with pytest.raises(ImageError, match="cannot be read: File name too long"):
        load_image(tmp_path / ("a" * 300))


def test_a_nul_in_the_name_of_a_folder_is_no_file(tmp_path: Path) -> None:
    """Python 3.11 says of such a path that it does not exist, and refuses to list it."""
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    names = FileNames()
    for path in ("b\0c/a.png", "b\0c/d/a.png", "b\0c"):
        assert not names.exists(tmp_path / path)
    assert names.exists(tmp_path / "A.png")
