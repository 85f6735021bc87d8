"""What is served: recipes, each a pipeline with a store that may be updated or replaced while it answers.

A store is opened at the folder that its path leads to at that moment, so that a symbolic link can be turned to another
folder while the old one still answers. `Served.reload` looks at the manifest; if it is another one, the store is opened
beside the one that answers and takes its place when it is ready. A store that cannot be opened takes nobody's place:
the old one goes on as long as its files are there, and what is wrong is said by /health.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TypeVar

from heritage_align.config import Config
from heritage_align.errors import HeritageAlignError, StoreError
from heritage_align.pipeline import Pipeline
from heritage_align.planning import compares_regions
from heritage_align.protocols import Encoder
from heritage_align.search import Searcher
from heritage_align.service import metrics
from heritage_align.service.logs import logger
from heritage_align.service.pictures import Collection, collection_of
from heritage_align.service.problems import Refused
from heritage_align.service.settings import check_names
from heritage_align.store.layout import MANIFEST

T = TypeVar("T")
State = tuple[int, int, int]


@dataclass(frozen=True)
class Source:
    """What is to be served under one name.

    Attributes:
        config: of the recipe.
        store: folder, or a link to one.
    """

    config: Config
    store: Path


@dataclass(frozen=True)
class Opened:
    """A store that was opened.

    Attributes:
        searcher: of it.
        identity: digest of its manifest.
        state: of the manifest's file.
        calibrated: whether it has a calibration for the recipe.
        moment: when it was opened.
    """

    searcher: Searcher
    identity: str
    state: State
    calibrated: bool
    moment: datetime = field(default_factory=lambda: datetime.now(timezone.utc))


class Served:
    """A recipe that answers. Safe in threads.

    Attributes:
        name: of the recipe.
        pipeline: of its configuration.
        path: of the store, as it was given.
        fault: why a newer store is not served; None where there is none.
        fingerprints: of the encoder of images and that of texts.
        explains: whether regions answer phrases.
        looks_last: whether a reranker looks at the best answers (`search.last`).
    """

    def __init__(self, source: Source, models: tuple[Encoder, Encoder] | None = None) -> None:
        """Build the pipeline and open the store.

        Args:
            source: what is served.
            models: image and text encoder that another recipe has built already (`same_models`).

        Raises:
            HeritageAlignError: the configuration or the store is at fault.
        """
        self.name, self.path = source.config.name, source.store
        self.pipeline = Pipeline(source.config, models=models)
        self.fingerprints = (self.pipeline.encoder.fingerprint(), self.pipeline.text_encoder.fingerprint())
        self.explains = compares_regions(source.config)
        self.looks_last = source.config.last is not None
        self.fault: str | None = None
        self._lock = threading.Lock()
        self._opened = self._open()
        self.collection: Collection | None = self._collection()

    @property
    def opened(self) -> Opened:
        """The store that answers now."""
        return self._opened

    def use(self, work: Callable[[Opened], T]) -> T:
        """Work with the store; where it was changed underneath, open what is there now and work once more.

        Raises:
            Refused: the store cannot be read (503), or `work` refuses.
        """
        opened = self._opened
        try:
            return work(opened)
        except StoreError as error:
            self.reload()
            if self._opened is opened:
                raise self.unreadable(error) from error
        try:
            return work(self._opened)
        except StoreError as error:
            raise self.unreadable(error) from error

    def unreadable(self, error: Exception) -> Refused:
        """Return the problem for a store that cannot be read at the moment."""
        message = f"the store of recipe {self.name!r} was changed and cannot be read at the moment"
        return Refused(503, message, retry_after=1, detail=str(error))

    def told(self, error: Exception) -> str:
        """Return an error's message without the place of the store on this machine."""
        message = str(error)
        for path in (self._opened.searcher.store.path, self.path.resolve(), self.path):
            message = message.replace(str(path), f"the store of recipe {self.name!r}")
        return message

    def reload(self, *, always: bool = False) -> bool:
        """Open the store again if its manifest is another one, or `always`; say whether it was opened.

        A store that cannot be opened leaves the one that answers where it is.
        """
        with self._lock:
            try:
                state = _state(self.path.resolve() / MANIFEST)
                if not always and state == self._opened.state:
                    self.fault = None
                    return False
                opened = self._open()
                collection = self._collection(opened)
            except (HeritageAlignError, OSError) as error:
                self._note(error)
                return False
            before, self._opened, self.collection, self.fault = self._opened, opened, collection, None
        metrics.RELOADS.labels(self.name, "opened").inc()
        logger.info(
            "store opened again",
            extra={"fields": {"recipe": self.name, "store": opened.identity, "images": len(opened.searcher.store)}},
        )
        before.searcher.close()  # ends its threads; who still works with it may go on
        return True

    def _note(self, error: Exception) -> None:
        fault = self.told(error)
        if fault != self.fault:  # once, not at every look
            metrics.RELOADS.labels(self.name, "failed").inc()
            logger.error("store not opened", extra={"fields": {"recipe": self.name, "detail": str(error)}})
        self.fault = fault

    def _open(self) -> Opened:
        folder = self.path.resolve()
        try:
            state, manifest = _state(folder / MANIFEST), (folder / MANIFEST).read_bytes()
        except OSError:  # what is wrong with the folder is said by who opens it
            state, manifest = (0, 0, 0), b""
        searcher = Searcher.open(self.pipeline, folder)
        calibrated = True
        try:
            searcher.calibration()
        except StoreError:
            calibrated = False
        metrics.IMAGES.labels(self.name).set(len(searcher.store))
        return Opened(searcher, hashlib.sha256(manifest).hexdigest()[:16], state, calibrated)

    def _collection(self, opened: Opened | None = None) -> Collection | None:
        return collection_of(self.pipeline.config, (opened or self._opened).searcher.store)


class Catalogue(Mapping[str, Served]):
    """The recipes that are served, by name; the first is the default. Those of the same encoders have them once.

    Raises:
        ConfigError: none, or two of one name.
        HeritageAlignError: as `Served`.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        check_names([source.config.name for source in sources])
        self._served: dict[str, Served] = {}
        for source in sources:
            built = (served.pipeline for served in self._served.values())
            like = next((pipeline for pipeline in built if same_models(pipeline.config, source.config)), None)
            models = None if like is None else (like.encoder, like.text_encoder)
            self._served[source.config.name] = Served(source, models)

    def __getitem__(self, name: str) -> Served:
        return self._served[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._served)

    def __len__(self) -> int:
        return len(self._served)

    def chosen(self, name: str | None) -> Served:
        """Return the recipe of a name, the first for None; raises Refused (404) for an unknown one."""
        if name is None:
            return next(iter(self._served.values()))
        try:
            return self._served[name]
        except KeyError:
            message = f"there is no recipe {name[:80]!r} here; there are {', '.join(self._served)}"
            raise Refused(404, message) from None


def same_models(one: Config, other: Config) -> bool:
    """Say whether two configurations build the same encoders: their settings, and what they are built for."""

    def made_of(config: Config) -> tuple[object, ...]:
        runtime = config.runtime
        return config.encoder, config.text_encoder, runtime.device, runtime.precision, runtime.seed

    return made_of(one) == made_of(other)


@contextmanager
def refusing(served: Served, status: int = 422) -> Iterator[None]:
    """Turn the library's errors in a block into `Refused`: the request is at fault, not the store."""
    try:
        yield
    except HeritageAlignError as error:
        raise Refused(status, served.told(error)) from error


def _state(path: Path) -> State:
    status = os.stat(path)
    return status.st_ino, status.st_size, status.st_mtime_ns
