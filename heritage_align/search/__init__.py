"""Search a store: first stage over one vector an image, then the full similarity on the candidates."""

from heritage_align.search.rerank import rank, rerank
from heritage_align.search.retrieve import search, search_images
from heritage_align.search.texts import search_texts

__all__ = ["rank", "rerank", "search", "search_images", "search_texts"]
