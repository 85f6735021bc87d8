"""An index that is built once over a store's vectors and kept beside the shards, in a folder of its own.

``index-<digest>/`` is named by all that it was made of: the shards' checksums, which vectors, the component and what it
says shapes it. So an index of the store as it was, or of other settings, is never taken for this one: it is not found,
and another is built. It is filled under another name and renamed when it is whole.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import torch

from heritage_align.errors import Note, StoreError
from heritage_align.identity import digest_of
from heritage_align.store.files import file_digest, read_json, write_json
from heritage_align.store.layout import read_manifest, shards_digest
from heritage_align.store.lock import changing, waiting_for
from heritage_align.store.reader import Store

if TYPE_CHECKING:
    from torch import Tensor

    from heritage_align.protocols import KeptIndex, KeptSearch

FORMAT = 1
PREFIX = "index-"
ABOUT = "about.json"
_FILLING = ".tmp"


@dataclass(frozen=True)
class Keeper:
    """A component whose indexes are kept.

    Attributes:
        name: of the component.
        index: built.
    """

    name: str
    index: KeptIndex

    def place(self, store: Store, vectors: str) -> Path:
        """Return the folder of the index over a store's ``global`` or ``folded`` vectors, there or not."""
        made_of = self._made_of(store, vectors)
        return store.path / f"{PREFIX}{digest_of(made_of)[:16]}"

    def open(self, store: Store, vectors: str) -> KeptSearch:
        """Open the index over a store's vectors; builds it first where there is none, or none that is whole.

        Raises:
            StoreError: it cannot be built or written, or what was built is not to be had; names the folder.
        """
        built = self.keep(store, vectors)
        try:
            return self.index.open(self.place(store, vectors))
        except StoreError as error:
            if built:
                raise
            self._build(store, vectors, str(error), anew=True)
            return self.index.open(self.place(store, vectors))

    def keep(self, store: Store, vectors: str) -> bool:
        """Build the index over a store's vectors where there is none, or none that is whole; return whether it did.

        Raises:
            StoreError: it cannot be built or written.
        """
        fault = fault_of(self.place(store, vectors))
        if fault is not None:
            self._build(store, vectors, fault)
        return fault is not None

    def _made_of(self, store: Store, vectors: str) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "component": self.name,
            "fingerprint": self.index.fingerprint(),
            "vectors": vectors,
            "store": shards_digest(store.manifest),
        }

    def _build(self, store: Store, vectors: str, reason: str, *, anew: bool = False) -> None:
        target = self.place(store, vectors)
        filling = target.with_name(f".{target.name}{_FILLING}")
        warnings.warn(f"{target}: {reason}; {self.name} builds it, once, of {len(store)} pictures", Note, stacklevel=4)
        try:
            with waiting_for(filling):
                try:
                    if anew or fault_of(target) is not None:  # nobody built it meanwhile
                        # First: an engine may keep what is outside of the folder under one name for both.
                        self._forget(target)
                        self._fill(store, vectors, filling)
                        filling.rename(target)
                finally:
                    shutil.rmtree(filling, ignore_errors=True)
        except OSError as error:
            raise StoreError(f"{target}: {self.name} cannot keep its index there: {error.strerror or error}") from error
        self._forget_stale(store)

    def _fill(self, store: Store, vectors: str, folder: Path) -> None:
        for left in folder.iterdir():  # by a process that was killed
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        self.index.build(_Sound(store, vectors), folder)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        about = {
            **self._made_of(store, vectors),
            "images": len(store),
            "dim": store.manifest.dim,
            "files": [
                {"file": path.relative_to(folder).as_posix(), "bytes": path.stat().st_size, "sha256": file_digest(path)}
                for path in files
            ],
        }
        for path in files:
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
        write_json(folder / ABOUT, about)

    def _forget(self, folder: Path) -> None:
        if folder.exists():
            with suppress(StoreError, OSError):  # a server that is gone keeps what it has
                self.index.drop(folder)
            shutil.rmtree(folder)

    def _forget_stale(self, store: Store) -> None:
        """Remove this component's indexes of neither the store as it is on the disk nor as it was opened."""
        try:
            now = {shards_digest(read_manifest(store.path)), shards_digest(store.manifest)}
        except StoreError:  # being replaced
            return
        for folder in kept_folders(store.path):
            with suppress(StoreError, OSError):
                about = read_json(folder / ABOUT)
                if about.get("component") == self.name and about.get("store") not in now:
                    self._forget(folder)
        for left in store.path.glob(f".{PREFIX}*{_FILLING}"):
            with suppress(StoreError, OSError), changing(left):  # of a process that was killed, or it would be held
                shutil.rmtree(left)


def kept_folders(path: Path) -> list[Path]:
    """Return the folders of the indexes that are kept beside a store, of any component and state."""
    return sorted(folder for folder in path.glob(f"{PREFIX}*") if folder.is_dir())


def fault_of(folder: Path, *, thorough: bool = False) -> str | None:
    """Say what is wrong with an index that is kept, None for nothing.

    Args:
        folder: of the index.
        thorough: compare checksums too, not sizes alone.
    """
    if not folder.exists():
        return "is not there"
    try:
        about = read_json(folder / ABOUT)
        if about.get("format") != FORMAT:
            return f"is of format {about.get('format')!r}, this version reads {FORMAT}"
        for entry in about["files"]:
            path = folder / entry["file"]
            if not path.is_file() or path.stat().st_size != entry["bytes"]:
                return f"is damaged: {entry['file']} is missing or cut"
            if thorough and file_digest(path) != entry["sha256"]:
                return f"is damaged: the content of {entry['file']} changed"
    except StoreError as error:
        return f"is damaged: {error}"
    except (KeyError, TypeError, OSError) as error:
        return f"is damaged: {ABOUT}: {error!r}"
    return None


class _Sound(Sequence["Tensor"]):
    """A store's vectors block by block; one that holds NaN or infinity is refused by the name of its shard."""

    def __init__(self, store: Store, vectors: str) -> None:
        self._store, self._vectors = store, vectors
        self._blocks = store.blocks(vectors)

    def __len__(self) -> int:
        return len(self._blocks)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[number] for number in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> Tensor: ...

    @overload
    def __getitem__(self, index: slice) -> list[Tensor]: ...

    def __getitem__(self, index: int | slice) -> Tensor | list[Tensor]:
        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        block = self._blocks[index]
        if not bool(torch.isfinite(block).all()):
            path = self._store.shard_path(int(self._store.starts[index]))
            raise StoreError(
                f"{path}: {self._vectors!r} holds NaN or infinity, of which no index is made; look with "
                f"heritage-align index verify {self._store.path}"
            )
        return block
