"""What is in a store's folder, and the two JSON documents that are read again.

config.yaml            the resolved configuration that made it: written first
build.json             what is being built from what: written next, compared by every later run
shard-00000.safetensors ...   features of `shard_images` sources each, in source order
manifest.json          what was built: written last; a folder without it is not finished
index-<digest>/ ...    indexes that were built once, and can be again: `store.kept`
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from heritage_align.errors import StoreError
from heritage_align.identity import DEFAULTS, differences, digest_of, same_but_for_new_settings
from heritage_align.store.files import read_json

T = TypeVar("T")

FORMAT = 1
BUILD = "build.json"
CONFIG = "config.yaml"
MANIFEST = "manifest.json"


def shard_name(number: int) -> str:
    """Return the file name of a shard."""
    return f"shard-{number:05d}.safetensors"


def sources_digest(ids: Sequence[str]) -> str:
    """Return a digest of a collection's image ids in their order."""
    digest = hashlib.sha256()
    for image_id in ids:
        encoded = image_id.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()


@dataclass(frozen=True)
class Build:
    """What a store is being built from.

    Attributes:
        identity: `Pipeline.identity` of the pipeline: encoder, image_config, config.
        name: the configuration's name.
        dtype: storage of the features.
        shard_images: sources in one shard.
        sources: number of pictures of the collection.
        sources_digest: of their ids in order.
        format: of the store.
    """

    identity: dict[str, str]
    name: str
    dtype: str
    shard_images: int
    sources: int
    sources_digest: str
    format: int = FORMAT

    @property
    def shards(self) -> int:
        """Number of shards when the build is finished."""
        return -(-self.sources // self.shard_images)

    def asdict(self) -> dict[str, Any]:
        """Return it JSON-ready; what is the default is a configuration's to say, not a store's."""
        identity = {key: value for key, value in self.identity.items() if key != DEFAULTS}
        return {**asdict(self), "identity": identity}

    def refuse_other(self, wanted: Build, folder: Path) -> None:
        """Raise StoreError, naming the first difference, if another build is going on in the folder."""
        labels = {
            "format": "store format",
            "dtype": "store.dtype",
            "shard_images": "store.shard_images",
            "sources": "number of pictures",
            "sources_digest": "list of pictures (their ids or order)",
        }
        refuse_identity(self.identity, wanted.identity, folder)
        for key, label in labels.items():
            have, want = getattr(self, key), getattr(wanted, key)
            if have != want:
                shown = "" if key == "sources_digest" else f": {have} there, {want} now"
                if key.startswith("sources") and (folder / MANIFEST).exists():
                    update = f"heritage-align index update {folder} --data ... takes in what changed"
                    raise StoreError(f"{folder}: was built with another {label}{shown}; {update}")
                raise StoreError(f"{folder}: was begun with another {label}{shown}; choose another folder")


@dataclass(frozen=True)
class ShardEntry:
    """One shard as the manifest lists it."""

    file: str
    images: int
    regions: int
    skipped: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a finished store holds.

    Attributes:
        build: what it was built from.
        dim: width of the vectors.
        shards: its files in order.
        folded: ``"none"``, ``"global"`` (the fold is the global vector) or ``"stored"``.
    """

    build: Build
    dim: int
    folded: str
    shards: tuple[ShardEntry, ...] = field(default_factory=tuple)

    @property
    def images(self) -> int:
        """Number of images with features."""
        return sum(shard.images for shard in self.shards)

    def asdict(self) -> dict[str, Any]:
        """Return it JSON-ready."""
        totals = {
            "images": self.images,
            "regions": sum(shard.regions for shard in self.shards),
            "skipped": sum(shard.skipped for shard in self.shards),
        }
        return {"dim": self.dim, "folded": self.folded, **totals, **asdict(self), "build": self.build.asdict()}


def shards_digest(manifest: Manifest) -> str:
    """Return a digest of what a store's shards hold, in their order."""
    return digest_of({"shards": [shard.sha256 for shard in manifest.shards]})


def _read(kind: type[T], document: Any) -> T:
    """Make a dataclass of a JSON object; raises TypeError or KeyError where it does not fit."""
    made = kind(**document)
    for part in fields(made):  # type: ignore[arg-type]  # T is one of the dataclasses here
        wanted = {"int": int, "str": str, "dict[str, str]": dict}[str(part.type)]
        if not isinstance(getattr(made, part.name), wanted):
            raise TypeError(f"{part.name} is not of type {part.type}")
    return made


def _read_build(document: Any) -> Build:
    build = _read(Build, document)
    if build.shard_images < 1:
        raise ValueError(f"shard_images is {build.shard_images}")
    return build


def read_build(folder: Path) -> Build:
    """Read build.json; raises StoreError for another format or a damaged file."""
    path = folder / BUILD
    document = read_json(path)
    if document.get("format") != FORMAT:
        raise StoreError(f"{path}: store format {document.get('format')!r}, this version reads {FORMAT}")
    try:
        return _read_build(document)
    except (TypeError, ValueError) as error:
        raise StoreError(f"{path}: is damaged: {error}") from error


def read_manifest(folder: Path) -> Manifest:
    """Read manifest.json.

    Raises:
        StoreError: there is no store, it is half built, of another format, or damaged.
    """
    path = folder / MANIFEST
    if not folder.is_dir():
        raise StoreError(f"{folder}: there is no store (heritage-align index build CONFIG --out {folder})")
    if not path.exists():
        if (folder / BUILD).exists():
            raise StoreError(f"{folder}: is half built; run the same index build again, it goes on where it stopped")
        raise StoreError(f"{folder}: holds no store: there is no {MANIFEST}")
    document = read_json(path)
    try:
        # Before anything else is looked at: another format may hold anything.
        if document["build"]["format"] != FORMAT:
            raise StoreError(f"{path}: store format {document['build']['format']!r}, this version reads {FORMAT}")
        build = _read_build(document["build"])
        shards = tuple(_read(ShardEntry, shard) for shard in document["shards"])
        manifest = Manifest(build, int(document["dim"]), str(document["folded"]), shards)
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise StoreError(f"{path}: is damaged: {error}") from error
    return manifest


def refuse_identity(have: dict[str, str], want: dict[str, str], folder: Path) -> None:
    """Raise StoreError if features were made by another encoder or other image settings; names what differs."""
    if have.get("encoder") != want.get("encoder"):
        raise StoreError(
            f"{folder}: was made by encoder {have.get('encoder')}, the config has {want.get('encoder')}; "
            "use the config it was made with, or build another store"
        )
    if have.get("image_config") != want.get("image_config") and not same_but_for_new_settings(have, want):
        raise StoreError(
            f"{folder}: was made with {_different_settings(have, want)}; "
            "use the config it was made with, or build another store"
        )


def _different_settings(have: dict[str, str], want: dict[str, str]) -> str:
    try:
        found = list(differences(json.loads(have["settings"]), json.loads(want["settings"])))
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):  # made by something that says none
        found = []
    # Of another component every setting differs; its name says it.
    others = tuple(place.removesuffix("name") for place, _, _ in found if place.endswith(".name"))
    named = [
        f"{place.replace('.settings.', '.')}: {_shown(there)} (the config has {_shown(here)})"
        for place, there, here in found
        if place.endswith(".name") or not (place.startswith(others) or place.endswith(".fingerprint"))
    ]
    if not named:
        return "other regions, region filters, folding or seed than the config has"
    more = f", and {len(named) - 3} more" if len(named) > 3 else ""
    return ", ".join(named[:3]) + more


def _shown(value: Any) -> str:
    return "nothing" if value is None else json.dumps(value, ensure_ascii=False)
