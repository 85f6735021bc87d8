"""Search a store: first stage over one vector an image, then the full similarity on the candidates."""

from heritage_align.search.once import rank, rerank, search, search_images
from heritage_align.search.searcher import Searcher
from heritage_align.search.texts import search_texts

__all__ = ["Searcher", "rank", "rerank", "search", "search_images", "search_texts"]
