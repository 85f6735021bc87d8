"""Every data set of the papers as it is handed out: its folder is read by naming it in a configuration.

Only the forms are from the sources; texts and pictures are made here.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from heritage_align.config import load_config
from heritage_align.pipeline import build_dataset
from heritage_align.protocols import Dataset

Png = Callable[[tuple[int, int, int]], bytes]
Draw = Callable[..., Path]


def read(**data: Any) -> Dataset:
    """Build the data set that a configuration's ``data`` section names."""
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in data.items()}
    document = {
        "version": 1,
        "name": "read",
        "encoder": {"name": "cn_clip", "model": "RN50", "checkpoint": "random"},
        "similarity": {"name": "global"},
        "data": settings,
    }
    return build_dataset(load_config(document))


def answers(dataset: Dataset) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {item.id: (item.text, item.image_ids) for item in dataset.texts}


def colours(dataset: Dataset) -> list[int]:
    """Return the red of every picture, in the data set's order: each picture is its own number in red."""
    return [dataset.load_image(image_id).getpixel((0, 0))[0] for image_id in dataset.image_ids]  # type: ignore[index]


def jsonl(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def tsv(path: Path, ids: Sequence[int], png: Png) -> None:
    lines = [f"{i}\t{base64.urlsafe_b64encode(png((i, 0, 0))).decode()}\n" for i in ids]
    path.write_text("".join(lines), encoding="ascii")


@pytest.mark.parametrize("name", ["MUGE", "Flickr30k-CN", "COCO-CN"])
def test_as_chinese_clip_distributes_them(tmp_path: Path, png: Png, name: str) -> None:
    folder = tmp_path / "datasets" / name
    jsonl(
        folder / "valid_texts.jsonl",
        [
            {"text_id": 8428, "text": "高级感托特包斜挎", "image_ids": [24, 30]},
            {"text_id": 8429, "text": "蓝印花布", "image_ids": [7]},
        ],
    )
    tsv(folder / "valid_imgs.tsv", [7, 24, 30, 99], png)
    dataset = read(name="chinese_clip", folder=folder, split="valid")
    assert dataset.name == f"{name}/valid"
    assert answers(dataset) == {"8428": ("高级感托特包斜挎", ("24", "30")), "8429": ("蓝印花布", ("7",))}
    assert dataset.image_ids == ("7", "24", "30", "99")  # a picture that no text names is a distractor
    assert colours(dataset) == [7, 24, 30, 99]
    assert {item.language for item in dataset.texts} == {"zh"}


def test_muge_as_the_competition_hands_it_out(tmp_path: Path, png: Png) -> None:
    jsonl(
        tmp_path / "MR_valid_queries.jsonl",
        [{"query_id": 248816, "query_text": "圣诞抱枕", "item_ids": [1006938, 1017]}],
    )
    jsonl(tmp_path / "MR_test_queries.jsonl", [{"query_id": 42550, "query_text": "拼色斜挎包"}])
    for split in ("valid", "test"):
        (tmp_path / f"MR_{split}_imgs.tsv").write_text(
            "".join(f"{i}\t{base64.b64encode(png((n, 0, 0))).decode()}\n" for n, i in enumerate((1006938, 1017)))
        )
    valid = read(name="chinese_clip", folder=tmp_path, split="valid")
    assert answers(valid) == {"248816": ("圣诞抱枕", ("1006938", "1017"))}
    assert colours(valid) == [0, 1]
    test = read(name="chinese_clip", folder=tmp_path, split="test")
    assert answers(test) == {"42550": ("拼色斜挎包", ())}  # kept back
    assert test.image_ids == ("1006938", "1017")


def test_coco_cn_as_its_authors_distribute_it(tmp_path: Path, draw: Draw) -> None:
    keys = {"COCO_train2014_000000000101": 101, "COCO_val2014_000000000042": 42, "COCO_val2014_000000000043": 43}
    for key, red in keys.items():
        draw(tmp_path / key.split("_")[1] / f"{key}.jpg", (red, 0, 0))
    folder = tmp_path / "coco-cn-version1805v1.1"
    folder.mkdir()
    captions = "".join(f"{key}#0\t第{red}幅：一只猫坐在沙发上\n" for key, red in keys.items())
    (folder / "imageid.human-written-caption.txt").write_text(captions, encoding="utf-8")
    (folder / "coco-cn_train.txt").write_text("COCO_train2014_000000000101\n")
    (folder / "coco-cn_test.txt").write_text("COCO_val2014_000000000042\nCOCO_val2014_000000000043\n")
    file, images = folder / "imageid.human-written-caption.txt", tmp_path
    test = read(name="captions", file=file, images=images, split_list=folder / "coco-cn_test.txt")
    assert test.image_ids == ("COCO_val2014_000000000042", "COCO_val2014_000000000043")
    assert colours(test) == [42, 43]
    assert [item.text for item in test.texts] == ["第42幅：一只猫坐在沙发上", "第43幅：一只猫坐在沙发上"]
    train = read(name="captions", file=file, images=images, split_list=folder / "coco-cn_train.txt")
    assert train.image_ids == ("COCO_train2014_000000000101",)


def test_flickr30k_cn_as_its_authors_distribute_it(tmp_path: Path, draw: Draw) -> None:
    for number in (36979, 65567):
        draw(tmp_path / "flickr30k-images" / f"{number}.jpg", (number % 251, 0, 0))
    test = tmp_path / "flickr30kzhmbosontest"
    (test / "TextData").mkdir(parents=True)
    (test / "ImageSets").mkdir()
    file = test / "TextData" / "seg.flickr30kzhmbosontest.caption.txt"  # with a space between words
    file.write_text(
        "36979.jpg#zhm#0 一群 留着 胡子 的 人\n36979.jpg#zhm#1 三 个 男人\n65567.jpg#zhm#0 两 只 狗\n", encoding="utf-8"
    )
    split = test / "ImageSets" / "flickr30kzhmbosontest.txt"
    split.write_text("36979.jpg\n65567.jpg\n")
    dataset = read(name="captions", file=file, images=tmp_path / "flickr30k-images", split_list=split)
    assert dataset.image_ids == ("36979", "65567")
    assert answers(dataset)["36979.jpg#zhm#1"] == ("三 个 男人", ("36979",))
    assert [len([t for t in dataset.texts if i in t.image_ids]) for i in dataset.image_ids] == [2, 1]


def test_flickr30k_cn_over_karpathys_split(tmp_path: Path, draw: Draw) -> None:
    draw(tmp_path / "flickr30k-images" / "36979.jpg", (9, 0, 0))
    split = tmp_path / "dataset_flickr30k.json"
    sentences = [{"sentid": 0, "raw": "A group of people with beards."}]
    images = [{"filename": "36979.jpg", "split": "test", "sentids": [0], "sentences": sentences}]
    split.write_text(json.dumps({"images": images, "dataset": "flickr30k"}))
    captions = tmp_path / "flickr30k_cn_test.txt"
    captions.write_text("36979.jpg#zhm#0 一群留着胡子的人\n", encoding="utf-8")
    both = {"name": "karpathy", "file": split, "images": tmp_path / "flickr30k-images"}
    assert [t.text for t in read(**both).texts] == ["A group of people with beards."]
    assert [t.text for t in read(**both, captions=captions).texts] == ["一群留着胡子的人"]


def test_culti_as_its_samples_are_published(tmp_path: Path, draw: Draw) -> None:
    folder = tmp_path / "samples"
    for number in range(1, 21):
        draw(folder / "sample_images" / f"{number}.png", (number, 0, 0))
    rows = [{"text_id": n, "text": f"第{n}幅缠枝莲纹锦", "image_ids": [n]} for n in range(1, 21)]
    jsonl(folder / "sample_texts.jsonl", rows)
    dataset = read(name="chinese_clip", folder=folder, split="sample")
    assert dataset.image_ids == tuple(str(n) for n in range(1, 21))
    assert colours(dataset) == list(range(1, 21))
    assert answers(dataset)["20"] == ("第20幅缠枝莲纹锦", ("20",))


def test_a_collection_like_ap_id_in_either_form(tmp_path: Path, draw: Draw) -> None:
    # AP-ID (2000, 1000 and 1000 pairs of pictures and descriptions) is not public, nor is its form: pairs with ids and
    # splits are read as a table, or as the Chinese-CLIP code on which CE-CLIP is built wants them.
    split_of = {1: "train", 2: "train", 3: "valid", 4: "test"}
    rows = []
    for number, split in split_of.items():
        draw(tmp_path / "images" / f"{number}.png", (number, 0, 0))
        rows.append({"image": f"images/{number}.png", "id": number, "text": f"第{number}件青花瓷", "split": split})
    jsonl(tmp_path / "pairs.jsonl", rows)
    for split in ("train", "valid", "test"):
        numbers = [n for n, name in split_of.items() if name == split]
        jsonl(
            tmp_path / f"{split}_texts.jsonl",
            [{"text_id": n, "text": f"第{n}件青花瓷", "image_ids": [n]} for n in numbers],
        )
        own = read(name="chinese_clip", folder=tmp_path, split=split)
        table = read(name="table", file=tmp_path / "pairs.jsonl", split=split)
        assert own.image_ids == tuple(map(str, numbers))  # the folder is shared, the gallery is the split's
        assert [item.text for item in own.texts] == [item.text for item in table.texts]
        assert [item.id for item in table.texts] == [str(n) for n in numbers]
        assert colours(own) == colours(table) == numbers
