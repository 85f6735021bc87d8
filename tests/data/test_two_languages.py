"""Captions with their translations: pairs, and the forms in which they come."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.lib import format as npy

from heritage_align.data.frame_features import read_frame_features
from heritage_align.data.motifs import Motifs
from heritage_align.data.parallel_captions import read_parallel_captions
from heritage_align.data.region_features import read_region_features, write_region_features
from heritage_align.data.translated_captions import read_translated_captions
from heritage_align.data.two_languages import pair_captions
from heritage_align.data.vatex import read_vatex
from heritage_align.errors import DataError, ImageError

Draw = Callable[[Path], Path]


def text_file(path: Path, *lines: str) -> Path:
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def test_the_motifs_pair_every_caption_with_its_translation() -> None:
    motifs = Motifs("train", artworks=3, variants=2, noise=0.3)
    pairs = pair_captions(motifs, "zh", "en")
    assert [pair.image_id for pair in pairs] == list(motifs.image_ids)
    assert all(pair.source.language == "zh" and pair.target.language == "en" for pair in pairs)
    assert all(pair.source.image_ids == pair.target.image_ids == (pair.image_id,) for pair in pairs)
    swapped = pair_captions(motifs, "en", "zh")
    assert [(pair.target, pair.source) for pair in swapped] == [(pair.source, pair.target) for pair in pairs]


def test_pairs_that_are_none_are_named() -> None:
    english = Motifs("train", artworks=1, languages=("en",))
    with pytest.raises(DataError, match="language 'zh': has no caption; there is 'en'"):
        pair_captions(english, "zh", "en")
    with pytest.raises(DataError, match="source and target are both 'en'"):
        pair_captions(english, "en", "en")
    both = Motifs("train", artworks=1, variants=2)
    both.texts = both.texts[:-1]
    with pytest.raises(DataError, match=r"image 'train-00000-1': has 1 captions in 'zh' and 0 in 'en'"):
        pair_captions(both, "zh", "en")


def test_multi30k_task_2_has_several_captions_an_image(tmp_path: Path, draw: Draw) -> None:
    draw(tmp_path / "images/b.jpg")
    images = text_file(tmp_path / "train_images.txt", "b.jpg", "a.jpg")
    captions = {
        language: [
            text_file(tmp_path / f"train.{n}.{language}", f"{language} b {n}", f"{language} a {n}") for n in (1, 2)
        ]
        for language in ("en", "de")
    }
    found = read_parallel_captions(images, tmp_path / "images", captions)
    assert found.image_ids == ("b.jpg", "a.jpg")
    pairs = pair_captions(found, "en", "de")
    assert [(p.image_id, p.source.text, p.target.text) for p in pairs] == [
        ("b.jpg", "en b 1", "de b 1"), ("b.jpg", "en b 2", "de b 2"),
        ("a.jpg", "en a 1", "de a 1"), ("a.jpg", "en a 2", "de a 2"),
    ]  # fmt: skip
    assert pairs[1].target.id == "b.jpg#de#1"
    assert found.load_image("b.jpg").size == (3, 2)


def test_parallel_files_that_do_not_fit_are_named(tmp_path: Path, draw: Draw) -> None:
    draw(tmp_path / "a.jpg")
    images = text_file(tmp_path / "list", "a.jpg", "b.jpg")
    short, blank = text_file(tmp_path / "short", "one"), text_file(tmp_path / "blank", "one", " ")
    with pytest.raises(DataError, match=r"short: has 1 captions, the list has 2 images"):
        read_parallel_captions(images, tmp_path, {"en": [short]})
    with pytest.raises(DataError, match=r"blank:2: line is empty"):
        read_parallel_captions(images, tmp_path, {"en": [blank]})
    with pytest.raises(DataError, match=r"1 in 'en', 0 in 'de'"):
        read_parallel_captions(images, tmp_path, {"en": [short], "de": []})
    with pytest.raises(DataError, match=r"unpack it first \(gunzip -k train.en.gz\)"):
        read_parallel_captions(images, tmp_path, {"en": [tmp_path / "train.en.gz"]})
    with pytest.raises(DataError, match=r"image 'a.jpg' was already used at .*twice:1"):
        read_parallel_captions(text_file(tmp_path / "twice", "a.jpg", "a.jpg"), tmp_path, {"en": [blank]})
    with pytest.raises(DataError, match="leads out of"):
        read_parallel_captions(text_file(tmp_path / "out", "../a.jpg"), tmp_path, {"en": [short]})


def test_mscoco_captions_find_their_translations_by_number(tmp_path: Path, draw: Draw) -> None:
    draw(tmp_path / "images/train2014/COCO_9.jpg")
    source = text_file(tmp_path / "en.txt", "COCO_9#enc#1 a plate", "COCO_9#enc#0 some food", "COCO_7#enc#0 a dog")
    target = text_file(tmp_path / "zh.txt", "COCO_9#enc2zh#0 食物", "COCO_9#enc2zh#1 盘子", "COCO_9#enc2zh#4 多余")
    split = text_file(tmp_path / "split.txt", "COCO_9.jpg")
    found = read_translated_captions(
        source, target, tmp_path / "images", source_language="en", target_language="zh", split=split
    )
    assert [(p.source.text, p.target.text) for p in pair_captions(found, "en", "zh")] == [
        ("a plate", "盘子"),
        ("some food", "食物"),
    ]
    assert found.load_image("COCO_9").size == (3, 2)
    settings = {"source_language": "en", "target_language": "zh", "require_pictures": False}
    with pytest.raises(DataError, match=r"caption 0 of 'COCO_7': has no translation in .*zh.txt"):
        read_translated_captions(source, target, tmp_path / "nowhere", **settings)
    with pytest.raises(DataError, match=r"en.txt:1: is not 'image#tag#number caption': 'a caption'"):
        read_translated_captions(text_file(source, "a caption"), target, tmp_path, **settings)
    with pytest.raises(DataError, match=r"zh.txt:2: caption 0 of 'COCO_9' was there already"):
        read_translated_captions(source, text_file(target, "COCO_9#0 一", "COCO_9#x#0 二"), tmp_path, **settings)


def test_vatex_by_people_and_by_a_machine(tmp_path: Path) -> None:
    entry = {"videoID": "v_1", "enCap": [f"en {k}" for k in range(10)], "chCap": [f"中 {k}" for k in range(10)]}
    file = tmp_path / "vatex.json"
    file.write_text(json.dumps([entry]), encoding="utf-8")
    people = pair_captions(read_vatex(file, parallel_only=True), "en", "zh")
    assert [(p.source.id, p.target.text) for p in people][::4] == [("v_1#en#5", "中 5"), ("v_1#en#9", "中 9")]
    machine = text_file(tmp_path / "enc2zh.txt", *(f"v_1#enc2zh#{k} 机 {k}" for k in range(10)))
    pairs = pair_captions(read_vatex(file, translations=machine), "en", "zh")
    assert len(pairs) == 10
    assert (pairs[3].source.text, pairs[3].target.text) == ("en 3", "机 3")
    with pytest.raises(ImageError, match="v_1.mp4"):
        read_vatex(file).load_image("v_1")
    short = text_file(tmp_path / "short.txt", "v_1#enc2zh#0 机")
    with pytest.raises(DataError, match=r"\[0\]: caption 1 of 'v_1' has no translation in .*short.txt"):
        read_vatex(file, translations=short)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "is not a VATEX caption file: must be a list"),
        ("[1]", r"\[0\]: expected an object"),
        ('[{"videoID": "v"}]', r"\[0\]: has no 'enCap'"),
        ('[{"videoID": "v", "enCap": [""]}]', r"\[0\]: 'enCap' entry 1 is empty"),
        ('[{"videoID": "v", "enCap": ["a"]}, {"videoID": "v", "enCap": ["b"]}]', "videoID 'v' was already used"),
    ],
)
def test_a_vatex_file_at_fault_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "vatex.json").write_text(content)
    with pytest.raises(DataError, match=message):
        read_vatex(tmp_path / "vatex.json")


def test_frames_become_regions_and_their_mean_the_video(tmp_path: Path) -> None:
    np.save(tmp_path / "v_1.npy", np.array([[[1, 2], [3, 6]]], dtype=np.float32))
    np.save(tmp_path / "v_2.npy", np.array([[5, 5]], dtype=np.float16))
    write_region_features(tmp_path / "frames.safetensors", read_frame_features(tmp_path))
    one, two = read_region_features(tmp_path / "frames.safetensors").select(["v_1", "v_2"]).regions()
    assert one.features is not None
    assert one.global_feature is not None
    assert one.features.tolist() == [[1, 2], [3, 6]]
    assert one.global_feature.tolist() == [2, 4]
    assert one.boxes.tolist() == [[0, 0, 1, 1]] * 2
    assert len(two) == 1


def test_frames_at_fault_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no folder of .npy files"):
        read_frame_features(tmp_path)
    np.save(tmp_path / "a.npy", np.ones((2, 3), dtype=np.float32))
    np.save(tmp_path / "b.npy", np.ones((2, 4), dtype=np.float32))
    np.save(tmp_path / "c.npy", np.array([[np.nan] * 3], dtype=np.float32))
    np.save(tmp_path / "d.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (tmp_path / "e.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(DataError) as caught:
        read_frame_features(tmp_path)
    message = str(caught.value)
    assert "4 problems" in message
    assert "b.npy: has shape (2, 4), expected (n_frames, 3)" in message
    assert "c.npy: holds numbers that are not finite" in message
    assert "d.npy: holds objects, expected floating numbers" in message


def test_frames_without_numbers_are_refused(tmp_path: Path) -> None:
    """A header may claim 10^9 of them, and a box would be made for each."""
    with (tmp_path / "v.npy").open("wb") as stream:
        npy.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": (10**9, 0)})
    with pytest.raises(DataError, match=r"v\.npy: has shape \(1000000000, 0\), expected \(n_frames, dim\)"):
        read_frame_features(tmp_path)


def test_a_number_of_too_many_digits_is_a_fault_of_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(f"a#enc#{'9' * 5000} one\n")
    with pytest.raises(DataError, match=r"a\.txt:1: caption 99999999999999999999 of 'a' Exceeds the limit"):
        read_translated_captions(
            tmp_path / "a.txt", tmp_path / "a.txt", tmp_path, source_language="en", target_language="zh"
        )
