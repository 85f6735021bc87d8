"""Our reader of LMDB beside the library's: the same entries of sound files, an error for every other."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest

from heritage_align.data.chinese_clip import read_chinese_clip
from heritage_align.data.encoded_pictures import LmdbPictures, TsvPictures
from heritage_align.data.lmdb_file import LmdbFile
from heritage_align.errors import DataError, ImageError

lmdb = pytest.importorskip("lmdb")


def write(folder: Path, entries: dict[bytes, bytes], **options: Any) -> Path:
    with lmdb.open(str(folder), map_size=2**30, **options) as environment, environment.begin(write=True) as transaction:
        for key, value in entries.items():
            transaction.put(key, value)
    return folder / "data.mdb"


def by_library(folder: Path) -> dict[bytes, bytes]:
    with lmdb.open(str(folder), readonly=True, lock=False) as environment, environment.begin() as transaction:
        return dict(transaction.cursor())


def by_us(folder: Path) -> dict[bytes, bytes]:
    found = LmdbFile(folder)
    return {key: found.get(key) or b"" for key in found}


def history(folder: Path, chance: random.Random) -> int:
    """Write and delete in twelve commits, compare after each; returns how many ended before their last page."""
    short = 0
    with lmdb.open(str(folder), map_size=2**28) as environment:
        for _ in range(12):
            with environment.begin(write=True) as transaction:
                for _ in range(chance.randrange(1, 40)):
                    size = chance.choice([0, 10, 1500, 4076, 20_000])
                    transaction.put(str(chance.randrange(300)).encode() * chance.choice([1, 9]), chance.randbytes(size))
                for _ in range(chance.randrange(80)):
                    transaction.delete(str(chance.randrange(300)).encode())
                for number in range(5):
                    transaction.put(f"x{number}".encode(), b"1" * 5000)
                for number in range(5):
                    transaction.delete(f"x{number}".encode())
            pages = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
            short += os.path.getsize(folder / "data.mdb") < pages
            assert by_us(folder) == by_library(folder)
    return short


def test_a_history_of_writing_and_deleting_is_read_as_the_library_reads_it(tmp_path: Path) -> None:
    """Values on pages of their own, pages used again, and files that end before their last page and are sound."""
    assert sum(history(tmp_path / str(seed), random.Random(seed)) for seed in range(4)) > 0


def test_many_keys_an_empty_one_and_a_map_of_a_terabyte(tmp_path: Path) -> None:
    entries = {f"{number:06}".encode(): str(number).encode() for number in range(20_000)}
    write(tmp_path / "many", entries)
    assert list(by_us(tmp_path / "many").items()) == sorted(entries.items())
    assert LmdbFile(tmp_path / "many").get(b"absent") is None
    write(tmp_path / "none", {})
    assert by_us(tmp_path / "none") == {}
    with lmdb.open(str(tmp_path / "huge"), map_size=2**40) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"k", b"v")
    assert by_us(tmp_path / "huge") == {b"k": b"v"}


def test_a_file_that_was_cut_is_refused_with_the_numbers(tmp_path: Path) -> None:
    entries = {f"{number:03}".encode(): b"p" * 9000 for number in range(200)}
    file = write(tmp_path, entries)
    size = os.path.getsize(file)
    whole = file.read_bytes()
    messages = {}
    for keep in (0, 100, 4096, 8191, 8192, size // 2, size - 4096, size - 1):
        file.write_bytes(whole[:keep])
        try:
            assert by_us(tmp_path) == entries  # the end of the last value's page may be missing
        except DataError as error:
            messages[keep] = str(error)
    assert len(messages) >= 7
    for keep, message in messages.items():
        said = f"data.mdb is cut off: it has {keep} bytes" if keep else "data.mdb is empty (0 bytes)"
        assert message.startswith(f"{tmp_path}: cannot be opened as an LMDB: {said}")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\nsize 1\n", "is a Git LFS pointer"),
        (b"<!DOCTYPE html><html>".ljust(9000), "is a web page"),
        (bytes(9000), "begins with zeros alone"),
    ],
)
def test_what_a_download_leaves_in_its_place_is_named(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(content)
    with pytest.raises(DataError, match=f"cannot be opened as an LMDB: data.mdb {said}"):
        LmdbFile(tmp_path)


def test_a_file_without_its_folder_is_no_tsv(tmp_path: Path) -> None:
    """`lmdb.open(..., subdir=False)` makes one."""
    (tmp_path / "lmdb" / "test").mkdir(parents=True)
    with lmdb.open(str(tmp_path / "lmdb" / "test" / "imgs"), subdir=False, map_size=2**20):
        pass
    (tmp_path / "test_texts.jsonl").write_text('{"text_id": 1, "text": "a"}\n')
    with pytest.raises(DataError, match=r"imgs: is the data\.mdb of an LMDB, without its folder: move it to"):
        read_chinese_clip(tmp_path, "test")


def test_any_damage_is_an_error_or_leaves_bytes_that_can_be_read(tmp_path: Path) -> None:
    """The library ends the process on some of these (SIGSEGV)."""
    file = write(tmp_path, {f"{n:03}".encode(): b"p" * (40 if n % 3 else 6000) for n in range(150)})
    whole = file.read_bytes()
    chance = random.Random(5)
    outcomes: list[str] = []
    for _ in range(600):
        broken = bytearray(whole)
        for _ in range(chance.randrange(1, 5)):
            page = chance.randrange(len(broken) // 4096) * 4096
            at = page + chance.choice([chance.randrange(4096), chance.randrange(64)])
            broken[at : at + chance.choice([1, 2, 8])] = chance.randbytes(chance.choice([1, 2, 8]))
        file.write_bytes(broken[: len(broken) if chance.random() < 0.9 else chance.randrange(len(broken))])
        try:
            by_us(tmp_path)
            outcomes.append("read")
        except DataError as error:
            outcomes.append(str(error))
    assert outcomes.count("read") not in (0, len(outcomes))
    assert all(outcome == "read" or outcome.startswith(str(tmp_path)) for outcome in outcomes)


def test_other_kinds_of_lmdb_are_named(tmp_path: Path) -> None:
    with lmdb.open(str(tmp_path / "named"), map_size=2**20, max_dbs=2) as environment:
        environment.open_db(b"inner")
    with pytest.raises(DataError, match="holds a database of its own under b'inner'"):
        LmdbFile(tmp_path / "named")
    with lmdb.open(str(tmp_path / "twice"), map_size=2**20, max_dbs=0) as environment:
        pass
    file = tmp_path / "twice/data.mdb"
    data = bytearray(file.read_bytes())
    for page in (0, 4096):
        data[page + 16 + 4] = 7
    file.write_bytes(data)
    with pytest.raises(DataError, match="is of LMDB's format 7, only 1 is read"):
        LmdbFile(tmp_path / "twice")
    with pytest.raises(DataError, match=r"gone: cannot be opened as an LMDB: there is no data\.mdb in it"):
        LmdbFile(tmp_path / "gone")


def test_a_file_that_shrinks_while_it_is_open_is_an_error(tmp_path: Path) -> None:
    file = write(tmp_path / "e", {b"1": b"YWJj" * 5000, b"num_images": b"1"})
    pictures = LmdbPictures(tmp_path / "e")
    assert pictures.read("1") == b"abc" * 5000
    os.truncate(file, 8192)
    with pytest.raises(ImageError, match=r"image '1': .*data\.mdb: was changed since it was opened"):
        pictures.read("1")
    file.unlink()
    with pytest.raises(ImageError, match=r"data\.mdb: cannot be read: No such file"):
        pictures.read("1")
    tsv = tmp_path / "p.tsv"
    tsv.write_bytes(b"1\tYWJj\n2\tYWJj\n")
    of_tsv = TsvPictures(tsv)
    assert of_tsv.read("2") == b"abc"
    os.truncate(tsv, 5)
    with pytest.raises(ImageError, match=r"p\.tsv, image '2': .*was changed since it was opened"):
        of_tsv.read("2")


def test_ids_of_many_digits_are_texts(tmp_path: Path) -> None:
    """Python makes no number of 4301 digits; numbers that any data set has go first, in their order."""
    long = b"9" * 300
    write(tmp_path / "e", {b"10": b"YWJj", long: b"YWJj", b"2": b"YWJj", b"a": b"YWJj"})
    assert LmdbPictures(tmp_path / "e").ids == ("2", "10", long.decode(), "a")
