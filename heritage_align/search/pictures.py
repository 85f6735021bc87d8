"""Which data set has the pictures of a store."""

from __future__ import annotations

from collections.abc import Callable

from heritage_align.config import Config, load_config
from heritage_align.errors import ConfigError, DataError, ImageError
from heritage_align.pipeline import build_dataset
from heritage_align.protocols import Dataset
from heritage_align.store import Store
from heritage_align.store.layout import CONFIG


def dataset_of(config: Config, store: Store, tell: Callable[[str], None]) -> Dataset | None:
    """Return the data set that has a store's pictures: the configuration's, or that of which the store was built.

    Args:
        config: asked first.
        store: some of its pictures may be gone since.
        tell: called with why a data set cannot be read: its files need not be on this machine.
    """
    for source in (config, store.path / CONFIG):
        try:
            if not isinstance(source, Config):
                if not source.exists():
                    continue
                source = load_config(source)
            if source.data is None:
                continue
            found = build_dataset(source)
        except ConfigError as error:
            tell(error.problems[0])
        except (DataError, ImageError, OSError) as error:
            tell(str(error))
        else:
            known = frozenset(found.image_ids)
            if any(image_id in known for image_id in store.ids):
                return found
    return None


def pictures_of(config: Config, store: Store, use: str) -> Dataset:
    """Return `dataset_of`.

    Args:
        use: what the pictures are for, the beginning of the error: "search.last: looks at pictures".

    Raises:
        ConfigError: there is none.
    """
    faults: list[str] = []
    found = dataset_of(config, store, faults.append)
    if found is None:
        which = "no data set says where they are" if config.data is None else "no data set has those of the store"
        raise ConfigError([f"{use}, and {which}; add data, or --data PATH", *faults], config.source)
    return found
