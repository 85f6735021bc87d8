"""Features on disk: safetensors shards that are written atomically, memory-mapped, and say what made them."""

from heritage_align.store.reader import Store
from heritage_align.store.verify import verify

__all__ = ["Store", "verify"]
