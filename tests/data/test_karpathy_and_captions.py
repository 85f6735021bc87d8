"""Karpathy's split files and the Chinese caption files of the same pictures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heritage_align.data.captions import image_key, read_captions
from heritage_align.data.karpathy import read_karpathy
from heritage_align.errors import DataError, ImageError

Draw = Callable[..., Path]
COCO = "COCO_val2014_000000000042"


def entry(name: str, split: str, first: int, **more: Any) -> dict[str, Any]:
    sentences = [{"raw": f"caption {i}", "sentid": i, "imgid": 0, "tokens": []} for i in (first, first + 1)]
    return {"filename": name, "split": split, "sentids": [first, first + 1], "sentences": sentences, **more}


def write(path: Path, images: Any) -> Path:
    path.write_text(json.dumps({"images": images, "dataset": "coco"}), encoding="utf-8")
    return path


@pytest.fixture
def coco(tmp_path: Path, draw: Draw) -> Path:
    draw(tmp_path / f"images/val2014/{COCO}.jpg", (255, 0, 0))
    draw(tmp_path / "images/train2014/b.jpg")
    images = [
        entry(f"{COCO}.jpg", "test", 10, filepath="val2014"),
        entry("b.jpg", "restval", 20, filepath="train2014"),
        entry("c.jpg", "val", 30, filepath="val2014"),
    ]
    return write(tmp_path / "dataset_coco.json", images)


def test_karpathy_splits(coco: Path) -> None:
    test = read_karpathy(coco, coco.parent / "images")
    assert test.image_ids == (COCO,)
    assert [(t.id, t.text, t.image_ids, t.language) for t in test.texts] == [
        ("10", "caption 10", (COCO,), "en"),
        ("11", "caption 11", (COCO,), "en"),
    ]
    assert test.load_image(COCO).getpixel((0, 0)) == (255, 0, 0)
    both = read_karpathy(coco, coco.parent / "images", splits=("test", "restval"))
    assert both.image_ids == (COCO, "b")
    assert both.name == "dataset_coco/test+restval"
    with pytest.raises(DataError, match="has no images of split 'tset'; splits: test, restval, val"):
        read_karpathy(coco, coco.parent / "images", splits=("tset",))


def test_karpathy_with_chinese_captions(coco: Path, tmp_path: Path) -> None:
    captions = tmp_path / "zh.txt"
    captions.write_text(f"{COCO}#zhm#0\t一只狗躺在鞋架上\nb#zhb#0 别的图\n", encoding="utf-8")
    splits = ("test", "val")
    test = read_karpathy(coco, coco.parent / "images", splits=splits, captions=captions)
    assert test.image_ids == (COCO,)  # c has no Chinese caption
    assert [(t.id, t.text, t.language) for t in test.texts] == [(f"{COCO}#zhm#0", "一只狗躺在鞋架上", "zh")]


def test_karpathy_faults_are_named(tmp_path: Path) -> None:
    images: list[Any] = [
        entry("a.jpg", "test", 1),
        entry("a.jpg", "test", 5),
        entry("b.jpg", "test", 2),
        {"split": "test", "sentences": []},
        "text",
        entry("c.jpg", "test", 7, sentids=[7]),
        entry("../d.jpg", "test", 9),
        entry("e.jpg", "test", 11, sentences=[{"sentid": 11}]),
        entry("f.jpg", "test", 13, sentences=[]),
    ]
    path = write(tmp_path / "k.json", images)
    with pytest.raises(DataError) as error:
        read_karpathy(path, tmp_path)
    message = str(error.value)
    for expected in [
        f"images[1]: image 'a' was already used at {path}, images[0]",
        "images[2]: sentid '2' was already used",
        "images[3]: has no 'filename'",
        "images[4]: expected an object",
        "images[5]: sentences[1] 'sentid' 8 is not among the image's 'sentids'",
        "images[6]: './../d.jpg' leads out of",
        "images[7]: sentences[0] has no 'raw'",
        "images[8]: 'sentences' is empty",
    ]:
        assert expected in message, message


@pytest.mark.parametrize("content", [b"[]", b"{", b'{"images": 3}', b"\xff\xfe", b""])
def test_what_is_no_karpathy_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "k.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"k\.json: is not (a Karpathy split file|UTF-8)"):
        read_karpathy(path, tmp_path)


def test_flickr_captions_with_a_split_list(tmp_path: Path, draw: Draw) -> None:
    draw(tmp_path / "flickr30k-images/100.jpg", (0, 255, 0))
    draw(tmp_path / "flickr30k-images/200.jpg")
    path = tmp_path / "flickr30kzhb.caption.txt"
    path.write_text(
        "100.jpg#zhb#0 两个年轻人 在看\n100.jpg#enc#1 Two young men.\n200.jpg#zhb#0 一个人\n",
        encoding="utf-8",
    )
    split = tmp_path / "test.txt"
    split.write_text("100.jpg\n", encoding="utf-8")
    collection = read_captions(path, tmp_path, split=split)
    assert collection.image_ids == ("100",)
    assert [(t.id, t.text, t.language) for t in collection.texts] == [
        ("100.jpg#zhb#0", "两个年轻人 在看", "zh"),
        ("100.jpg#enc#1", "Two young men.", "en"),
    ]
    assert collection.load_image("100").getpixel((0, 0)) == (0, 255, 0)
    assert read_captions(path, tmp_path).image_ids == ("100", "200")


def test_coco_cn_captions(tmp_path: Path, draw: Draw) -> None:
    draw(tmp_path / f"val2014/{COCO}.jpg")
    path = tmp_path / "imageid.human-written-caption.txt"
    path.write_bytes(f"{COCO}#0\t一只狗\r\n{COCO}#1\t鞋架\r\nCOCO_train2014_1#0\t丢失\r\n".encode())
    collection = read_captions(path, tmp_path)
    assert [t.image_ids for t in collection.texts] == [(COCO,), (COCO,), ("COCO_train2014_1",)]
    with pytest.raises(ImageError, match=r"COCO_train2014_1\.\*: no such file"):
        collection.load_image("COCO_train2014_1")


def test_caption_faults_are_named(tmp_path: Path, draw: Draw) -> None:
    draw(tmp_path / "a.jpg")
    draw(tmp_path / "other/a.png")
    path = tmp_path / "c.txt"
    path.write_text("a#0\tgood\na#0\tagain\nno number\na#1\t \nb#zhc#2 \n", encoding="utf-8")
    split = tmp_path / "s.txt"
    split.write_text("a\nc\na.jpg\n", encoding="utf-8")
    with pytest.raises(DataError) as error:
        read_captions(path, tmp_path, split=split)
    message = str(error.value)
    for expected in [
        f"{split}:3: image 'a' was already named at {split}:1",
        f"{path}:2: caption 'a#0' was already used at {path}:1",
        f"{path}:3: is not 'image#number caption': 'no number'",
        f"{path}:4: caption 'a#1' is empty",
        f"{path}:5: caption 'b#zhc#2' is empty",
        f"{split}:2: image 'c' has no caption in {path}",
        "other/a.png: image 'a' is also ",
    ]:
        assert expected in message, message


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("a.jpg", "a"),
        ("val2014/a.JPG", "a"),
        ("1000268201_693b08cb0e.jpg", "1000268201_693b08cb0e"),
        ("v1.2", "v1.2"),
    ],
)
def test_image_keys(name: str, key: str) -> None:
    assert image_key(name) == key
