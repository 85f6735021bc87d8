"""Where a component reads its model from: what its settings say about that, and where it lies on this machine.

Nothing is fetched: a repository of the Hugging Face hub is looked for in the local cache alone.

>>> source = ModelSource("no/such-model", (ModelPart("weights", (("model.safetensors",),)),), pin="revision")
>>> source.here() is None, source.commit() is None
(True, True)
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from pathlib import Path

CARD = "README.md"


def user_path(name: str) -> Path:
    """Return the path that a setting names, with the home that a ``~`` before it stands for.

    >>> user_path("~no such user/model").parts[0]  # as it is written: then there is no such file
    '~no such user'
    """
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


@dataclass(frozen=True)
class ModelPart:
    """One thing that a model is read from.

    Attributes:
        what: for example ``"weights"``.
        any_of: groups of files, as paths in the model's folder; the first group that is there is read. A file that ends
            in ``.index.json`` names files of weights in its ``weight_map``, which lie beside it and are of its group.
        needed: False for what is read where it is there.
        get: names or patterns of the files to fetch where there are several groups; without them all of a repository is
            fetched.
    """

    what: str
    any_of: tuple[tuple[str, ...], ...]
    needed: bool = True
    get: tuple[str, ...] = ()

    def found(self, folder: Path) -> tuple[str, ...] | None:
        """Return the group that is read of a model's folder, None where no group is there."""
        return next((group for group in self.any_of if all((folder / name).is_file() for name in group)), None)


@dataclass(frozen=True)
class ModelSource:
    """A model of a component.

    Attributes:
        name: how messages call it: the folder, the name on the hub, or one that its library has for it.
        parts: what is read of it.
        folder: where it is; None where it is of the hub.
        repository: of the hub, from where the parts can be had; without a folder and without this it is `name`.
        url: of the one file that there is, where it is of no repository.
        revision: branch, tag or commit of a model of the hub.
        pin: the setting that holds the revision, which a written configuration sets to the commit that is here.
    """

    name: str
    parts: tuple[ModelPart, ...]
    folder: Path | None = None
    _: KW_ONLY
    repository: str | None = None
    url: str | None = None
    revision: str | None = None
    pin: str | None = None

    def here(self) -> Path | None:
        """Return the folder with the files on this machine, None where there is none."""
        if self.folder is not None:
            return self.folder if self.folder.is_dir() else None
        try:
            from huggingface_hub import try_to_load_from_cache
        except ImportError:  # it comes with the libraries that read models of the hub
            return None
        files = [file for part in self.parts for group in part.any_of for file in group]
        for file in [*files, CARD]:
            try:
                found = try_to_load_from_cache(self.repository or self.name, file, revision=self.revision)
            except ValueError:  # no name of a repository
                return None
            if isinstance(found, str):
                return Path(found).parents[len(Path(file).parts) - 1]
        return None

    def commit(self) -> str | None:
        """Return the commit of a model of the hub that is in the cache, None for any other."""
        folder = self.here() if self.folder is None else None
        return None if folder is None else folder.name
