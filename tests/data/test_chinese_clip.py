"""Chinese-CLIP's form in its three homes for pictures, written as that project writes it."""

from __future__ import annotations

import base64
import json
import pickle
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from heritage_align.data.chinese_clip import read_chinese_clip
from heritage_align.data.encoded_pictures import TsvPictures, decode_base64
from heritage_align.data.folder import read_folder
from heritage_align.errors import DataError, ImageError

lmdb = pytest.importorskip("lmdb")

RED, BLUE = (255, 0, 0), (0, 0, 255)
TEXTS: list[dict[str, Any]] = [
    {"text_id": 8, "text": "团窠双鹤纹锦", "image_ids": [10]},
    {"text_id": 9, "text": "缠枝牡丹", "image_ids": [10, 2]},
]
Png = Callable[[tuple[int, int, int]], bytes]


def write_texts(folder: Path, rows: Sequence[Any] = TEXTS, split: str = "test") -> Path:
    path = folder / f"{split}_texts.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def write_tsv(folder: Path, pictures: dict[str, bytes], encode: Callable[[bytes], bytes] = base64.b64encode) -> Path:
    path = folder / "test_imgs.tsv"
    path.write_bytes(b"".join(key.encode() + b"\t" + encode(data) + b"\n" for key, data in pictures.items()))
    return path


def write_lmdb(path: Path, entries: dict[str, bytes]) -> None:
    path.mkdir(parents=True)
    with lmdb.open(str(path), map_size=2**20) as environment, environment.begin(write=True) as transaction:
        for key, value in entries.items():
            transaction.put(key.encode(), value)


def colour(collection: Any, image_id: str) -> tuple[int, ...]:
    return collection.load_image(image_id).getpixel((0, 0))


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_tsv_in_both_alphabets(tmp_path: Path, png: Png, encode: Callable[[bytes], bytes]) -> None:
    write_texts(tmp_path)
    # Of this picture's encoding the alphabets differ: else the test would not see a dropped "+" or "/".
    red = png(RED) + b"\xff\xfe\xfb\xef\xbe" * 3
    red += b"\0" * (-len(red) % 3)  # no padding, so that every character of the encoding counts
    assert encode(red) != (base64.b64encode if encode is base64.urlsafe_b64encode else base64.urlsafe_b64encode)(red)
    write_tsv(tmp_path, {"10": red, "2": png(BLUE)}, encode)
    # To the last byte, which no decoder looks at.
    assert TsvPictures(tmp_path / "test_imgs.tsv").read("10") == red
    collection = read_chinese_clip(tmp_path, "test")
    assert collection.image_ids == ("10", "2")
    assert colour(collection, "10") == RED
    assert colour(collection, "2") == BLUE
    assert [(t.id, t.text, t.image_ids, t.language) for t in collection.texts] == [
        ("8", "团窠双鹤纹锦", ("10",), "zh"),
        ("9", "缠枝牡丹", ("10", "2"), "zh"),
    ]
    with pytest.raises(DataError, match="has no image '3'"):
        collection.load_image("3")


@pytest.mark.parametrize("data", [bytes(range(256)), b"", b"a", b"ab", b"abc"])
def test_base64_of_any_alphabet_and_padding(data: bytes) -> None:
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        assert decode_base64(encode(data)) == data
        assert decode_base64(encode(data).rstrip(b"=") + b"\r\n") == data
    assert decode_base64(base64.encodebytes(data)) == data  # in lines of 76
    with pytest.raises(ValueError, match="is not base64"):
        decode_base64(b"ab!d")


def test_lmdb_with_texts(tmp_path: Path, png: Png) -> None:
    write_texts(tmp_path)
    images = {"10": base64.urlsafe_b64encode(png(RED)), "2": base64.b64encode(png(BLUE)), "num_images": b"2"}
    write_lmdb(tmp_path / "lmdb/test/imgs", images)
    collection = read_chinese_clip(tmp_path, "test")
    assert collection.image_ids == ("2", "10")  # numbers in their own order, not in that of their bytes
    assert colour(collection, "10") == RED
    again = read_chinese_clip(tmp_path, "test")
    assert colour(again, "2") == BLUE


def test_lmdb_pairs_stand_in_for_missing_texts(tmp_path: Path, png: Png) -> None:
    write_lmdb(tmp_path / "lmdb/test/imgs", {str(i): base64.b64encode(png(RED)) for i in (2, 10)})
    # One row a (text, image) pair, as build_lmdb_dataset.py writes them: image, text id, text.
    pairs = [(10, 8, "团窠双鹤纹锦"), (10, 9, "缠枝牡丹"), (2, 9, "缠枝牡丹")]
    entries = {str(i): pickle.dumps(pair) for i, pair in enumerate(pairs)}
    write_lmdb(tmp_path / "lmdb/test/pairs", {**entries, "num_samples": b"3"})
    collection = read_chinese_clip(tmp_path, "test")
    assert [(t.id, t.text, t.image_ids) for t in collection.texts] == [
        ("8", "团窠双鹤纹锦", ("10",)),
        ("9", "缠枝牡丹", ("10", "2")),
    ]


def test_lmdb_faults_are_named(tmp_path: Path, png: Png) -> None:
    write_lmdb(tmp_path / "lmdb/test/imgs", {"2": base64.b64encode(png(RED)), "num_images": b"3"})
    write_texts(tmp_path)
    with pytest.raises(DataError, match="holds 1 pictures, its num_images says 3"):
        read_chinese_clip(tmp_path, "test")
    write_lmdb(tmp_path / "lmdb/b/imgs", {"2": base64.b64encode(png(RED))})
    pairs = {"0": pickle.dumps([1, 2, "x"]), "1": pickle.dumps((2, 8, "a")), "2": pickle.dumps((2, 8, "b"))}
    write_lmdb(tmp_path / "lmdb/b/pairs", {**pairs, "num_samples": b"4"})
    with pytest.raises(DataError) as error:
        read_chinese_clip(tmp_path, "b")
    assert "pair 0: refused pickle opcode" in str(error.value)
    assert "pair 2: text 8 differs from that of" in str(error.value)
    assert "pair 3: is missing" in str(error.value)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/data.mdb").write_bytes(b"no database" * 999)
    with pytest.raises(DataError, match="cannot be opened as an LMDB"):
        read_chinese_clip(tmp_path, "test", images=tmp_path / "broken")


def test_folder_of_pictures(tmp_path: Path, draw: Callable[..., Path]) -> None:
    """CulTi's sample: samples/sample_images/{1..20}.png and samples/sample_texts.jsonl."""
    for image_id, c in [("2", RED), ("10", BLUE), ("77", RED)]:
        draw(tmp_path / f"sample_images/{image_id}.png", c)
    write_texts(tmp_path, split="sample")
    collection = read_chinese_clip(tmp_path, "sample")
    assert collection.image_ids == ("10", "2")  # 77 belongs to another split
    assert colour(collection, "10") == BLUE
    assert read_chinese_clip(tmp_path, "sample", all_pictures=True).image_ids == ("10", "2", "77")
    write_texts(tmp_path, [{"text_id": 1, "text": "答案保密的测试集"}], split="sample")
    collection = read_chinese_clip(tmp_path, "sample")
    assert collection.image_ids == ("10", "2", "77")
    assert collection.texts[0].image_ids == ()


def test_a_missing_picture_is_named_when_it_is_read_unless_none_is_left(
    tmp_path: Path, draw: Callable[..., Path]
) -> None:
    write_texts(tmp_path)
    draw(tmp_path / "images/2.jpg", RED)
    collection = read_chinese_clip(tmp_path, "test")
    assert colour(collection, "2") == RED
    with pytest.raises(ImageError, match=r"images/10\.\*: no such file"):
        collection.load_image("10")
    (tmp_path / "images/2.jpg").rename(tmp_path / "images/3.jpg")
    with pytest.raises(DataError, match="none of the 2 pictures exists"):
        read_chinese_clip(tmp_path, "test")


def test_two_files_of_one_id_are_refused(tmp_path: Path, draw: Callable[..., Path]) -> None:
    write_texts(tmp_path)
    draw(tmp_path / "images/2.jpg")
    draw(tmp_path / "images/2.png")
    with pytest.raises(DataError, match=r"2\.png: image id '2' is already that of 2\.jpg"):
        read_chinese_clip(tmp_path, "test")


def test_every_fault_of_the_texts_is_in_one_error(tmp_path: Path, png: Png) -> None:
    write_tsv(tmp_path, {"10": png(RED), "2": png(BLUE)})
    rows: list[Any] = [
        *TEXTS,
        {"text_id": 8, "text": "again", "image_ids": [10]},
        {"text": "no id", "image_ids": [10]},
        {"text_id": 11, "text": " ", "image_ids": [10]},
        {"text_id": 12, "text": "x", "image_ids": [999]},
        {"text_id": 13, "text": "x", "image_ids": 10},
        {"text_id": True, "text": "x", "image_ids": [10]},
        {"text_id": 14, "text": ["x"], "image_ids": [10]},
    ]
    path = write_texts(tmp_path, rows)
    with path.open("ab") as stream:
        stream.write(b'{"text_id": 15,\n')
    with pytest.raises(DataError) as error:
        read_chinese_clip(tmp_path, "test")
    message = str(error.value)
    assert message.startswith(f"{path}: 8 problems\n")
    for expected in [
        f"{path}:3: text id '8' was already used at {path}:1",
        f"{path}:4: has no 'text_id'",
        f"{path}:5: 'text' is empty",
        f"{path}:6: text '12' belongs to image '999', which is not there",
        f"{path}:7: 'image_ids' must be a list, got int 10",
        f"{path}:8: 'text_id' must be a string or an integer, got bool True",
        f"{path}:9: 'text' must be a string, got list ['x']",
        f"{path}:10: is not JSON",
    ]:
        assert expected in message


def test_every_fault_of_a_tsv_is_in_one_error(tmp_path: Path, png: Png) -> None:
    good = base64.b64encode(png(RED))
    path = tmp_path / "a.tsv"
    lines = [
        b"1\t" + good,
        b"no tab here",
        b"\t" + good,
        b"1\t" + good,
        b"4\t ",
        b"\xff\t" + good,
        b"",
        b"7\t" + good,
    ]
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(DataError) as error:
        TsvPictures(path)
    message = str(error.value)
    assert message.startswith(f"{path}: 5 problems\n")
    for line, problem in [
        (2, "no tab"),
        (3, "empty image id"),
        (4, "already used"),
        (5, "is empty"),
        (6, "not UTF-8"),
    ]:
        assert any(f":{line}: " in shown and problem in shown for shown in message.splitlines())


def test_a_picture_that_is_not_base64_is_an_image_error(tmp_path: Path, png: Png) -> None:
    write_texts(tmp_path)
    write_tsv(tmp_path, {"10": png(RED), "2": png(BLUE)[:40]}, lambda data: base64.b64encode(data))
    path = tmp_path / "test_imgs.tsv"
    path.write_bytes(path.read_bytes().replace(b"10\tiVBOR", b"10\tiV*OR"))
    collection = read_chinese_clip(tmp_path, "test")
    with pytest.raises(ImageError, match=r"test_imgs\.tsv, image '10': is not base64"):
        collection.load_image("10")
    with pytest.raises(ImageError, match=r"test_imgs\.tsv, image '2'"):
        collection.load_image("2")


def test_the_pictures_of_a_tsv_are_not_loaded_when_it_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "big.tsv"
    with path.open("wb") as stream:
        for image_id in range(4):
            stream.write(f"{image_id}\t".encode())
            stream.seek(50 * 2**20, 1)  # a sparse file: 200 MiB of zero bytes that take no disk
            stream.write(b"\n")
    tracemalloc.start()
    pictures = TsvPictures(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert pictures.ids == ("0", "1", "2", "3")
    assert peak < 2**20


def test_missing_files_are_named_with_what_is_there(tmp_path: Path, png: Png) -> None:
    with pytest.raises(DataError, match="there is no such folder"):
        read_chinese_clip(tmp_path / "none", "test")
    with pytest.raises(DataError, match=r"found no pictures; looked for test_imgs\.tsv, lmdb/test/imgs"):
        read_chinese_clip(tmp_path, "test")
    write_tsv(tmp_path, {"10": png(RED)})
    write_texts(tmp_path, split="valid")
    with pytest.raises(DataError, match=r"test_texts\.jsonl: no such file; splits found: valid"):
        read_chinese_clip(tmp_path, "test")
    (tmp_path / "test_imgs.tsv").write_bytes(b"")
    write_texts(tmp_path, [])
    with pytest.raises(DataError, match="has no pictures"):
        read_chinese_clip(tmp_path, "test")


def test_a_folder_of_packed_pictures_is_named_with_the_config_that_reads_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no pictures$"):
        read_folder(tmp_path)
    (tmp_path / "MR_train_imgs.tsv").write_text("1\tAAAA\n")
    (tmp_path / "lmdb" / "test" / "imgs").mkdir(parents=True)
    (tmp_path / "lmdb" / "test" / "imgs" / "data.mdb").touch()
    with pytest.raises(DataError, match=r"has no picture files, but packed ones \(TSV, LMDB\) of test, train: name"):
        read_folder(tmp_path)
