"""What the pages of the service work with."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from heritage_align.service.batching import Batcher
from heritage_align.service.pictures import Renditions
from heritage_align.service.served import Catalogue
from heritage_align.service.settings import ServiceSettings


@dataclass
class Service:
    """What the routes work with.

    Attributes:
        catalogue: of the recipes.
        settings: the limits.
        renditions: pictures that are kept ready.
        pictures: threads that decode pictures.
        batcher: there while the app runs.
    """

    catalogue: Catalogue
    settings: ServiceSettings
    renditions: Renditions
    pictures: ThreadPoolExecutor
    batcher: Batcher | None = None

    def reload(self, *, always: bool = False) -> None:
        """Look at every store, and open those again that were updated or replaced."""
        for served in self.catalogue.values():
            served.reload(always=always)
