"""Run a coverage-guided fuzzer (atheris) over the readers of ``test_reader_corpus.py``; pytest does not collect this.

    pip install atheris
    python tests/fuzz_readers.py tables --seconds 600 --out /tmp/fuzz
    python tests/fuzz_readers.py tables --choose 15 --out /tmp/fuzz

The first goes on from ``tests/corpus/tables``, the kind's `SEEDS`, and what an earlier run left: ``OUT/tables/corpus``
gets every file that reached new code, ``OUT/tables/findings`` what is to be mended, each once with its traceback: an
error that is none of ours, a signal, more than 20 s, or 512 MiB that a file made the process grow by. The second copies
what reaches most code with the fewest and shortest files into ``tests/corpus/tables``; that is what the tests read.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import pickle
import re
import resource
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

TESTS = Path(__file__).resolve().parent
INSTRUMENTED = ["heritage_align", "heritage_align_plugins", "PIL", "yaml", "zipfile", "numpy.lib", "csv", "html"]
SECONDS_A_FILE, GROWTH, ADDRESS_SPACE = 20, 512 * 2**20, 4 * 2**30
LONGEST, LONGEST_KEPT = 2**14, 2**12

WORDS = {
    "iiif": (
        "@context @id @type id type label items sequences canvases images resource on target body motivation "
        "painting service profile level0 level1 level2 width height Manifest sc:Manifest Collection sc:Collection "
        "Canvas Choice default item SpecificResource source full selector #xywh= ImageService2 ImageService3 "
        "tiles scaleFactors sizes maxWidth maxHeight maxArea tile_width tile_height scale_factors extraFeatures "
        "supports sizeByW metadata summary description value language @value @language none manifests collections "
        "members first next CollectionPage http:// https:// file:// ../ %2e "
        "http://iiif.io/api/image/3/context.json http://iiif.io/api/presentation/3/ TextualBody Sound 2147483647 "
        "1e400 \\u0000 \\ud800 <p> &amp; NaN"
    ),
    "images": (
        "\\xff\\xd8\\xff\\xe0 JFIF \\xff\\xe1 Exif\\x00\\x00 \\xff\\xdb \\xff\\xc0 \\xff\\xc2 \\xff\\xc4 "
        "\\xff\\xda \\xff\\xd9 ICC_PROFILE\\x00 Adobe MPF\\x00 II*\\x00 MM\\x00* II+\\x00 "
        "\\x89PNG\\x0d\\x0a\\x1a\\x0a IHDR IDAT IEND PLTE tRNS iCCP eXIf acTL fcTL zTXt iTXt gAMA RIFF WEBP "
        "VP8\\x20 VP8L VP8X ALPH ANIM GIF87a GIF89a \\x21\\xf9\\x04 BM ftypavif ftypheic jP\\x20\\x20 jp2h ihdr "
        "colr jp2c \\xff\\x4f\\xff\\x51 \\xff\\x52 \\xff\\x90 P1 P2 P3 P4 P5 P6 Pf PF 65535 \\x00\\x01 \\x01\\x00 "
        "\\x4a\\x01 \\x01\\x4a \\x12\\xc6 \\x12\\x01 \\xfe\\x00 ispe acsp RGB\\x20 GRAY CMYK Lab\\x20"
    ),
    "tables": (
        "image text id phrases split language group texts , ; \\x09 | sep=; \\x22 \\x0d\\x0a \\xef\\xbb\\xbf "
        "\\xff\\xfe \\xfe\\xff { } [ ] : \\x22image\\x22: \\x22text\\x22: null true file:// C:\\x5c .. \\xc4\\xe3 "
        "\\x81\\x40 \\xe4\\xb8\\xad \\xe2\\x80\\x8b ['a','b'] .jpg NaN 1e999 \\x00 \\x1a"
    ),
    "sets": (
        "images filename filepath split test train sentids sentences sentid raw videoID enCap chCap text_id text "
        "image_ids query_id query_text item_ids phrases id image regions box texts language #0 #enc2zh#0 \\x09 "
        ".jpg \\xff\\xfe \\xef\\xbb\\xbf \\ud800 null 1e999 { } [ ] : ,"
    ),
    "cap": "#0 #1 \\x09 .jpg #enc#0 #zhm#0 \\xef\\xbb\\xbf \\xff\\xfe",
    "tsv": "\\x09 AAAA AACAPw== AAAAAA== 1 10 99999999 /9j/ iVBORw0KGgo \\x0d\\x0a",
    "yaml": (
        "name: encoder: proposer: similarity: search: data: store: runtime: filters: fragmenter: index: folds: "
        "seed: <<: &a *a !!bool !!int !!float !!timestamp !!binary !!set !!omap !!python/object | > - ? {} [] "
        ".inf .nan ~ 0x1F 1_000 2024-99-99 --- ... %YAML license: license_name: host: port: token: limits: file: "
        "cn_clip patch_grid scan region_features pairs motifs"
    ),
    "trec": "Q0 q1 1 0.5 nan inf -inf 1e999 tag \\x09 \\xef\\xbb\\xbf \\x20",
    "lmdb": (
        "\\xde\\xc0\\xef\\xbe \\x80\\x02 \\x80\\x04 \\x95 \\x8c K\\x01 M\\x01\\x00 \\x87 \\x86 \\x85 q\\x00 "
        "h\\x00 . ( t \\x94"
    ),
    "npz": (
        "PK\\x03\\x04 PK\\x01\\x02 PK\\x05\\x06 \\x93NUMPY\\x01\\x00 'descr':'<f4' 'fortran_order': False True "
        "'shape': (2,3) '<f2' '|O' '<i8' '<U4' features.npy x.npy bbox.npy image_h.npy image_w.npy num_bbox.npy "
        "info.npy x y"
    ),
    "st": (
        "dtype F16 F32 F64 BF16 I32 I64 BOOL I8 U8 shape data_offsets __metadata__ ids values offsets boxes "
        "objectness global keypoints keep format architecture heritage_align/alignment/1 heritage_align/cl2cm/1 "
        "settings feature_dim features vocabulary 1e999 [0,1] -1 18446744073709551616"
    ),
    "pt": (
        "PK\\x03\\x04 archive/data.pkl version byteorder ctorch._utils\\x0a_rebuild_tensor_v2\\x0a \\x80\\x02 }q "
        "\\x8a X"
    ),
    "store": (
        "build format 1 identity name dtype shard_images sources sources_digest dim folded none global stored "
        "shards file images regions skipped bytes sha256 encoder image_config config laws depth source component "
        "fingerprint vectors files ids values offsets boxes keep factor scales contents __metadata__ F16 F32 I64 "
        "I8 U8 BOOL shape data_offsets"
    ),
    "files": (
        "weight_map model.safetensors ../ name embed_dim image_resolution vision_layers vision_width "
        "vision_patch_size vocab_size text_attention_probs_dropout_prob text_hidden_act text_hidden_size "
        "text_num_hidden_layers model_type vision_config text_config 1e999 null \\ud800 --- license:"
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("kind")
    parser.add_argument("--seconds", type=int, default=600, help="wall time")
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir(), "fuzz_readers"))
    parser.add_argument("--choose", type=int, metavar="N", help="add at most N files to tests/corpus, run nothing")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    folder = asked.out.resolve() / asked.kind
    sys.path[:0] = [str(TESTS.parent), str(TESTS.parent / "plugins"), str(TESTS)]
    for name in ("corpus", "findings", "seeds"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    if asked.child:
        fuzz(asked.kind, folder, asked.seconds)
    elif asked.choose is not None:
        choose(asked.kind, folder, asked.choose)
    else:
        watch(asked.kind, folder, asked.seconds)


def watch(kind: str, folder: Path, seconds: int) -> None:
    """Keep a fuzzing process running: what ends one (a signal, 20 s for a file) is kept, and another begins."""
    for seed in seeds_of(kind):
        (folder / "seeds" / _name(seed)).write_bytes(seed)
    began, tried = time.monotonic(), 0
    while (left := seconds - (time.monotonic() - began)) > 1:
        command = [sys.executable, __file__, kind, "--child", "--seconds", str(int(left)), "--out", str(folder.parent)]
        # A signal may come between two lines of a file that is shared: the fuzzer's own report goes to its own.
        with tempfile.TemporaryFile("w+", errors="replace") as log:
            ended = subprocess.run(command, stdout=log, stderr=log, env={**os.environ, "PYTHONFAULTHANDLER": "1"})
            log.seek(0)
            said = log.read()
        runs = [int(number) for number in re.findall(r"^#(\d+)\s", said, re.MULTILINE)]
        tried += max(runs, default=0)
        if ended.returncode and not re.search(r"^Done \d+ runs", said, re.MULTILINE):  # atheris may fail at its end
            (folder / "findings" / f"log-{time.time_ns()}.txt").write_text(f"{said[-20_000:]}\n{ended}\n")
            if not runs:
                raise SystemExit(said[-4000:])
    kept, found = (len(list((folder / name).glob("*"))) for name in ("corpus", "findings"))
    print(f"{kind}: {tried} files tried in {time.monotonic() - began:.0f} s, {kept} kept, {found} files of findings")


def fuzz(kind: str, folder: Path, seconds: int) -> None:
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from test_reader_corpus import read_or_refuse
    place = Path(tempfile.mkdtemp())
    dictionary = place / "words.txt"
    dictionary.write_text("".join(f'"{word}"\n' for word in _words(kind)))
    with contextlib.suppress(Exception):  # what is imported when it is first needed is not the first file's doing
        for data in seeds_of(kind):
            read_or_refuse(kind, data, place)
    read_once = _watched(kind, folder / "findings", place, read_or_refuse)
    _limit_memory()
    # Fuzz() ends the process, where it is not told a number of runs.
    atheris.Setup(
        [
            sys.argv[0],
            f"-max_total_time={seconds}",
            f"-timeout={SECONDS_A_FILE}",
            f"-max_len={LONGEST}",
            "-rss_limit_mb=0",  # torch and numpy alone are 600 MiB; what a file adds is looked at below
            f"-dict={dictionary}",
            f"-artifact_prefix={folder / 'findings'}/",
            str(folder / "corpus"),
            str(TESTS / "corpus" / kind),
            str(folder / "seeds"),
        ],
        read_once,
        custom_mutator=mutated,
    )
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (readers say which encoding they guess)
    atheris.Fuzz()


def _watched(kind: str, findings: Path, place: Path, read_or_refuse: Any) -> Any:
    """Return what is called with each file: a fault is written down, once a place in the code, and the run goes on."""
    known: set[str] = set()

    def note(data: bytes, what: str, about: str) -> None:
        if what not in known:
            known.add(what)
            (findings / _name(data)).write_bytes(data)
            (findings / f"{_name(data)}.txt").write_text(f"{what}\n{about}", errors="replace")

    def read_once(data: bytes) -> None:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.monotonic()
        try:
            refused = read_or_refuse(kind, data, place)
        except Exception as error:
            note(data, _where(error), traceback.format_exc())
        else:
            for error in refused:
                inner: BaseException | None = error
                while inner is not None:
                    if isinstance(inner, MemoryError):
                        note(data, f"memory {_where(inner)}", "".join(traceback.format_exception(inner)))
                    inner = inner.__cause__ or inner.__context__
        seconds = time.monotonic() - began
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        if grown > GROWTH:
            note(data, f"grew {grown >> 29}", f"{grown >> 20} MiB in {seconds:.1f} s")
        if seconds > SECONDS_A_FILE / 10:
            note(data, f"slow {int(seconds)}", f"{seconds:.1f} s")

    return read_once


def _where(error: BaseException) -> str:
    """Name an error by its type and the innermost places, of the project and of all, that it came through."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "heritage_align" in frame.filename] or frames
    return f"{type(error).__name__} {ours[-1].filename}:{ours[-1].name} {frames[-1].filename}:{frames[-1].name}"


def _limit_memory() -> None:
    """Make an allocation of gigabytes fail instead of taking the machine down."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ADDRESS_SPACE, used + ADDRESS_SPACE))


def _words(kind: str) -> list[str]:
    """Return the entries of libFuzzer's dictionary, with its escapes for what is no printable ASCII."""
    return [re.sub(r'\\(?!x[0-9a-f]{2})|"', lambda m: f"\\x{ord(m[0]):02x}", word) for word in WORDS[kind].split()]


ODD: list[Any] = [None, True, 0, -1, 1, 2**31 - 1, 2**63, 10**400, 0.5, 1e300, float("inf"), float("nan")]
ODD += ["", " ", "\0", "\ud800", "/", "..", "//a/b", "http://[", "http://a/b", "file:a", "a" * 300]
ODD += [[], {}, [[]], [None], {"a": None}, [{}]]
"""What a value of a JSON document is replaced with."""


def mutated(data: bytes, most: int, seed: int) -> bytes:
    """Change a file; what is inside of a frame that must fit (a header of a given length, checksums) is changed there.

    Bytes are changed by libFuzzer's own mutations, JSON values half of the time in their tree.
    """
    import atheris

    random = Random(seed)

    def inside(part: bytes) -> bytes:
        if random.random() < 0.5:
            with contextlib.suppress(ValueError, RecursionError):
                lines = part.split(b"\n")
                at = random.randrange(len(lines))
                if lines[at].strip()[:1] in (b"{", b"[") and (len(lines) == 1 or lines[at][-1:] in b"]}"):
                    return b"\n".join([*lines[:at], _other_tree(json.loads(lines[at]), random), *lines[at + 1 :]])
        return bytes(atheris.Mutate(part, max(len(part) + 64, 1)))

    found = data
    length = int.from_bytes(data[:8], "little")
    if random.random() < 0.1:
        found = inside(data)
    elif data[8:9] == b"{" and length <= len(data) - 8:
        header = inside(data[8 : 8 + length])
        body = data[8 + length :]
        found = len(header).to_bytes(8, "little") + header + (inside(body) if random.random() < 0.2 else body)
    elif data[:4] == b"PK\3\4":
        found = _zip_with(data, inside, random)
    elif data[:8] == b"\x89PNG\r\n\x1a\n":
        found = _with_checksums(inside(data))
    else:
        found = inside(data)
    return found[:most]


def _other_tree(document: Any, random: Random) -> bytes:
    """Return a document with one or a few values replaced, removed, repeated, wrapped or moved."""
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        places = list(_places(document))
        if not places:
            return json.dumps(random.choice(ODD)).encode()
        (holder, key), (other, name) = random.choice(places), random.choice(places)
        value = other[name]
        action = random.randrange(7)
        if action == 0:
            del holder[key]
        elif action == 1 and isinstance(holder, list):
            holder.insert(key, json.loads(json.dumps(value)))
        elif action == 2:
            holder[key] = json.loads(json.dumps(value))
        elif action == 3:
            holder[key] = random.choice(([holder[key]], {"": holder[key]}))
        elif action == 4 and isinstance(holder, dict) and isinstance(other, dict):
            holder[name] = holder.pop(key)
        elif action == 5 and isinstance(holder[key], str):
            at = random.randrange(len(holder[key]) + 1)
            holder[key] = holder[key][:at] + str(random.choice(ODD)) + holder[key][at:]
        else:
            holder[key] = random.choice(ODD)
    text = json.dumps(document, ensure_ascii=random.random() < 0.5)
    if random.random() < 0.02:
        deep = random.choice((100, 330, 490, 980))
        text = text.replace("[]", "[" * deep + "]" * deep, 1).replace("{}", '{"a":' * deep + "1" + "}" * deep, 1)
    return text.encode("utf-8", "surrogatepass")


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from _places(value[key])


def _zip_with(data: bytes, inside: Callable[[bytes], bytes], random: Random) -> bytes:
    """Change one file of an archive and put its checksum right."""
    with contextlib.suppress(Exception):  # a damaged archive raises many things, and an error here ends the process
        with zipfile.ZipFile(BytesIO(data)) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
        if files:
            name = random.choice(list(files))
            files[name] = inside(files[name])
            buffer = BytesIO()
            with zipfile.ZipFile(buffer, "w", random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
                for name, content in files.items():
                    archive.writestr(zipfile.ZipInfo(name), content)
            return buffer.getvalue()
    return inside(data)


def _with_checksums(data: bytes) -> bytes:
    """Put the checksums of a PNG's chunks right, as far as they can be told apart."""
    found, at = bytearray(data[:8]), 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        if at + 12 + length > len(data):
            break
        chunk = data[at + 4 : at + 8 + length]
        found += data[at : at + 4] + chunk + zlib.crc32(chunk).to_bytes(4, "big")
        at += 12 + length
    return bytes(found + data[at:])


def seeds_of(kind: str) -> Iterator[bytes]:
    """Yield small well-formed files of a kind, so that the fuzzer need not find them."""
    made: dict[str, Callable[[], Iterable[bytes]]] = {
        "iiif": _manifests,
        "images": _pictures,
        "sets": _sets,
        "npz": _arrays,
        "st": _tensor_files,
        "pt": _checkpoints,
        "store": _store_files,
        "lmdb": _pickles,
    }
    yield from made.get(kind, tuple)()
    yield from (text.encode() for text in TEXTS.get(kind, ()))
    if kind in ("tables", "cap"):
        yield "image,text\na.jpg,蓝地缠枝莲纹锦\n".encode("gb18030")
        yield "image\ttext\na.jpg\t折枝花\n".encode("utf-16")


TEXTS = {
    "tables": (
        'image,text,phrases,split\na.jpg,"A roundel, with cranes",a|b,train\nb.jpg|c.jpg,two,,test\n',
        "sep=;\nimage;text\na.jpg;one\nb.jpg;two\n",
        '{"image": ["a.jpg", "b.jpg"], "text": ["one", "two"], "id": 1}\n{"image": "c.jpg", "text": "x"}\n',
        '[{"image": "a.jpg", "text": "one"}, {"image": "file:b.jpg", "text": "two", "group": "g"}]',
    ),
    "cap": (
        "a.jpg#zhm#0 两个\na.jpg#zhm#1 三\n",
        "a#enc#0 one\nb#enc2zh#0 two\n",
        "one\ntwo\nthree\nfour\n",
        "词 n\n# a\n",
    ),
    "tsv": ("1\t/9j/4AAQ\n2\tiVBORw0KGgo=\n", "7\t10\t10\t1\tAAAAAAAAAAAAAIA/AACAPw==\tAACAPwAAAAA=\n"),
    "trec": ("q1 Q0 a 1 0.5 tag\nq1 Q0 b 2 0.25 tag\n", "q1\tone text\nq2\tanother\n"),
    "yaml": (
        "name: x\nencoder: {name: cn_clip, model: motif-small}\nproposer: {name: patch_grid, rows: 2}\n"
        "similarity: {name: scan, temperature: 9.0}\ndata: {name: motifs, count: 4}\n",
        "base: &b {name: global}\nsimilarity: {<<: *b, weight: 1.0}\n",
        "host: 127.0.0.1\nport: 8080\ntoken: abc\n",
        "---\nlicense: other\nlicense_name: x\n---\ntext\n",
        '{"embed_dim": 8, "image_resolution": 32, "vision_layers": 1, "vision_width": 64, "vision_patch_size": 16}',
    ),
}


def _json(document: Any) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode()


def _manifests() -> Iterator[bytes]:
    info = {"@context": "http://iiif.io/api/image/3/context.json", "width": 16, "height": 8}
    service = {"id": "svc", "type": "ImageService3", "profile": "level0"}
    for body in ({"id": "p.png", "type": "Image"}, {"id": "x.jpg", "type": "Image", "service": [service]}):
        annotation = {"type": "Annotation", "motivation": "painting", "body": body, "target": "c"}
        canvas = {"id": "c", "type": "Canvas", "width": 9, "height": 9, "items": [{"items": [annotation]}]}
        metadata = [{"label": {"en": ["Date"]}, "value": {"en": ["<p>1800</p>"], "zh": ["清"]}}]
        manifest = {"id": "m", "type": "Manifest", "label": {"en": ["a"]}, "metadata": metadata, "items": [canvas]}
        yield _json({**manifest, **info, "profile": "level1"})
        yield _json({**manifest, **info, "tiles": [{"width": 8, "scaleFactors": [1, 2]}]})
        yield _json({**manifest, **info, "sizes": [{"width": 8, "height": 4}], "maxWidth": 8})
    choice = {"type": "Choice", "items": [{"type": "SpecificResource", "source": {"id": "p.png", "type": "Image"}}]}
    canvas = {"id": "c", "items": [{"items": [{"motivation": ["painting"], "body": [choice]}]}]}
    yield _json({"type": "Collection", "id": "k", "items": [{"id": "m", "type": "Manifest", "items": [canvas]}]})
    resource = {"@id": "p.png", "@type": "dctypes:Image", "service": {"@id": "svc", "profile": "level2"}}
    second = {"@id": "c", "label": {"@value": "1r", "@language": "en"}, "images": [{"on": "c", "resource": resource}]}
    sequences = [{"canvases": [second]}]
    older = {"width": 16, "height": 8, "tile_width": 8, "tile_height": 8, "scale_factors": [1, 2]}
    yield _json({"@type": "sc:Manifest", "@id": "m", "label": "x", "sequences": sequences, **older})
    yield _json({"@type": "sc:Collection", "@id": "k", "manifests": [{"@id": "a.json", "@type": "sc:Manifest"}]})


def _pictures() -> Iterator[bytes]:
    import numpy as np
    from PIL import Image, ImageCms, features

    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 4), dtype=np.uint8)
    colour = Image.fromarray(noise[..., :3])
    modes = [colour, Image.fromarray(noise), *(colour.convert(mode) for mode in ("L", "P", "CMYK", "1", "I", "LAB"))]
    modes += [Image.fromarray(noise[..., 0].astype(np.uint16) * 257), Image.fromarray(noise[..., 0].astype(np.float32))]
    exif = Image.Exif()
    exif[0x0112] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    kinds = ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "JPEG2000", "PPM"] + ["AVIF"] * bool(features.check("avif"))
    for kind in kinds:
        options: list[dict[str, Any]] = [{}]
        if kind in ("JPEG", "PNG", "TIFF", "WEBP", "AVIF"):
            options += [{"exif": exif}, {"icc_profile": profile}]
        if kind in ("GIF", "PNG", "WEBP", "TIFF"):
            options += [{"save_all": True, "append_images": [colour.rotate(90).resize((8, 6))]}]
        options += [{"progressive": True}, {"subsampling": 2}] if kind == "JPEG" else []
        packings = ["tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "group4", "zstd", "lzma"]
        options += [{"compression": packing} for packing in packings] if kind == "TIFF" else []
        options += [{"lossless": True}] if kind == "WEBP" else []
        options += [{"no_jp2": True}, {"num_resolutions": 2, "tile_size": (8, 8)}] if kind == "JPEG2000" else []
        for image in modes:
            for option in options if image is colour else [options[0], *options[-1:]]:
                buffer = BytesIO()
                # Not every format has every kind of pixels.
                with contextlib.suppress(OSError, ValueError, KeyError, TypeError, SystemError, RuntimeError):
                    image.save(buffer, kind, **option)
                    yield buffer.getvalue()


def _sets() -> Iterator[bytes]:
    sentences = [{"sentid": 0, "raw": "A dog."}, {"sentid": 1, "raw": "Two."}]
    image = {"filename": "1.jpg", "filepath": "v", "split": "test", "sentids": [0, 1], "sentences": sentences}
    yield _json({"images": [image, {**image, "filename": "2.jpg", "split": "val"}]})
    yield _json([{"videoID": "a", "enCap": ["one", "two"], "chCap": ["一", "二"]}])
    yield _json({"text_id": 1, "text": "青花", "image_ids": [7, 8], "phrases": ["a"]})
    yield _json({"query_id": 1, "query_text": "青花", "item_ids": [7]})
    region = {"box": [1, 2, 3, 4.5], "phrases": ["a"]}
    yield _json({"id": "a", "image": "a.jpg", "text": "x", "regions": [region], "language": "en", "split": "test"})
    yield _json({"id": "a", "image": "a.jpg", "texts": [{"id": "t", "text": "x", "phrases": ["a"]}]})


def _arrays() -> Iterator[bytes]:
    import numpy as np

    box, features = np.array([[0, 0, 4, 4], [1, 1, 3, 3]], np.float32), np.ones((2, 3), np.float32)
    one = {"features": features, "bbox": box, "image_h": np.int64(8), "image_w": np.int64(8), "num_bbox": np.int64(2)}
    many = {"ids": np.array(["a", "b"]), "values": features, "offsets": np.array([0, 1, 2]), "boxes": box / 8}
    for arrays in (one, many, {"x": features, "info": np.array({"a": 1}, dtype=object)}):
        for save in (np.savez, np.savez_compressed):
            buffer = BytesIO()
            save(buffer, **arrays)
            yield buffer.getvalue()
    for array in (features, np.ones((1, 2, 3), np.float16, order="F"), np.array([{}], dtype=object), box.astype(int)):
        buffer = BytesIO()
        np.save(buffer, array)
        yield buffer.getvalue()


def _tensor_files() -> Iterator[bytes]:
    import numpy as np
    from safetensors.numpy import save

    values, offsets = np.ones((2, 3), np.float32), np.array([0, 1, 2])
    boxes = np.array([[0, 0, 1, 1]] * 2, np.float32)
    whole = {"values": values.astype(np.float16), "offsets": offsets, "boxes": boxes, "global": values}
    yield save(whole, {"ids": '["a", "b"]'})
    yield save({**whole, "keep": np.array([True, False]), "keypoints": np.array([1, 2], np.int32)}, {"ids": "[1, 2]"})
    shape = {"embed_dim": 8, "image_resolution": 32, "vision_layers": 1, "vision_width": 64, "vision_patch_size": 16}
    vocabulary = {"tokens": ["a"], "idf": [1.0], "singles": 1, "pieces": 0}
    alignment = {"settings": {}, "feature_dim": 3, "features": True, "vocabulary": vocabulary}
    student = {
        "dim": 8,
        "image_dim": 3,
        "mode": "cl2cm",
        "source": "en",
        "target": "zh",
        "text": {},
        "vocabulary": ["a"],
    }
    for metadata in (
        {"format": "heritage_align/cn_clip/1", "architecture": json.dumps({"name": "x", **shape})},
        {"heritage_align/alignment/1": json.dumps(alignment)},
        {"heritage_align/cl2cm/1": json.dumps(student)},
    ):
        yield save({"w": values}, metadata)


def _checkpoints() -> Iterator[bytes]:
    import numpy as np
    import torch

    state = {"module.w": torch.ones(2, 3), "module.b": torch.zeros(2, dtype=torch.float16)}
    run = {"format": 1, "identity": "a run", "epoch": 1, "model": state}
    for content in (state, {"state_dict": state, "epoch": 3, "args": argparse.Namespace(a=1)}, run):
        for zipped in (True, False):
            buffer = BytesIO()
            torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
            yield buffer.getvalue()

    arrays = {"model": {"w": np.ones((2, 3), np.float32), "step": np.float64(1)}, "__author__": "x"}
    yield from (pickle.dumps(arrays, protocol) for protocol in (2, 4))


def _store_files() -> Iterator[bytes]:
    import torch

    from heritage_align.ops import Ragged
    from heritage_align.store.shard import write_shard
    from heritage_align.types import ImageFeatures

    path = Path(tempfile.mkdtemp(), "shard.safetensors")
    regions = Ragged(torch.ones(3, 4), torch.tensor([0, 1, 3]))
    boxes, keep = torch.tensor([[0.0, 0, 1, 1]] * 3), torch.tensor([True, False, True])
    features = ImageFeatures(("a", "b"), torch.ones(2, 4), regions, boxes=boxes, keep=keep, folded=torch.ones(2, 4))
    for dtype in ("fp16", "int8"):
        write_shard(path, features, [("c", "is broken")], dtype, {"a": b"0123456789abcdef"})
        yield path.read_bytes()
    build = {"identity": {"encoder": "a", "image_config": "b", "config": "c"}, "name": "x", "dtype": "fp16"}
    build |= {"shard_images": 4, "sources": 2, "sources_digest": "d", "format": 1}
    yield _json(build)
    shard = {"file": "shard-00000.safetensors", "images": 2, "regions": 2, "skipped": 0, "bytes": 9, "sha256": "e"}
    yield _json({"build": build, "dim": 3, "folded": "none", "images": 2, "shards": [shard]})
    yield _json({"format": 1, "files": [{"file": "about.json", "bytes": 9, "sha256": "e"}], "component": "faiss"})


def _lmdb(entries: dict[bytes, bytes], page: int = 256) -> bytes:
    """Write one leaf, and pages of its own for each value that would not fit (LMDB's library has pages of 4096)."""
    nodes, overflow, at = b"", b"", page
    pointers = []
    for key, value in entries.items():
        own = 3 + len(overflow) // page
        if len(value) > page // 4:
            count = -(-(16 + len(value)) // page)
            overflow += (struct.pack("<QHHI", own, 0, 4, count) + value).ljust(count * page, b"\0")
            node = struct.pack("<IHH", len(value), 1, len(key)) + key + own.to_bytes(8, "little")
        else:
            node = struct.pack("<IHH", len(value), 0, len(key)) + key + value
        at -= len(node)
        nodes = node + nodes
        pointers.append(at)
    low = 16 + 2 * len(pointers)
    leaf = struct.pack(f"<QHHHH{len(pointers)}H", 2, 0, 2, low, at, *pointers).ljust(at, b"\0") + nodes
    last, databases = 2 + len(overflow) // page, struct.Struct("<IHHQQQQQ")
    metas = b""
    for number in range(2):
        meta = struct.pack("<QHHHHIIQQ", number, 0, 8, 0, 0, 0xBEEFC0DE, 1, 0, 2**20)
        meta += databases.pack(page, 0, 0, 0, 0, 0, 0, 2**64 - 1) + databases.pack(0, 0, 1, 0, 1, 0, len(entries), 2)
        metas += (meta + struct.pack("<QQ", last, number)).ljust(page, b"\0")
    return metas + leaf + overflow


def _pickles() -> Iterator[bytes]:
    yield _lmdb({b"1": b"YWJj", b"2": b"YWJj" * 100, b"num_images": b"2"})
    yield _lmdb({b"0": pickle.dumps((1, 2, "青花"), 4), b"num_samples": b"1"})
    for protocol in range(6):
        yield pickle.dumps((1, 70_000, "青花", b"x", 2**70, [None, True]), protocol)


def choose(kind: str, folder: Path, most: int) -> None:
    """Add to the kind's corpus the files that reach lines which those before do not, the most new lines first."""
    from test_reader_corpus import read_or_refuse

    place = Path(tempfile.mkdtemp())
    here = TESTS / "corpus" / kind
    here.mkdir(exist_ok=True)
    kept = [path.read_bytes() for path in sorted(here.iterdir())]
    found = [path.read_bytes() for name in ("seeds", "corpus") for path in sorted((folder / name).iterdir())]
    lines = {data: _lines(kind, data, place, read_or_refuse) for data in [*kept, *found] if len(data) <= LONGEST_KEPT}
    reached = set().union(*(lines.get(data, set()) for data in kept))
    for _ in range(most):
        best = max(lines, key=lambda data: (len(lines[data] - reached), -len(data)))
        if not lines[best] - reached:
            break
        kept.append(best)
        reached |= lines[best]
        (here / _name(best)).write_bytes(best)
    print(f"{kind}: {len(kept)} files, {sum(map(len, kept))} bytes, {len(reached)} lines reached")


def _lines(kind: str, data: bytes, place: Path, read_or_refuse: Any) -> set[tuple[str, int]]:
    """Return the lines of the project and of Pillow's formats that a file reaches."""
    reached: set[tuple[str, int]] = set()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        name = frame.f_code.co_filename
        if "/heritage_align" not in name and "/PIL/" not in name:
            return None
        if event == "line":
            reached.add((name, frame.f_lineno))
        return trace

    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        sys.settrace(trace)
        try:
            read_or_refuse(kind, data, place)
        finally:
            sys.settrace(None)
    return reached


def _name(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:8]


if __name__ == "__main__":
    main()
