"""Search a store: first stage over one vector an image, then the full similarity on the candidates.

`Searcher` is opened once and answers any number of queries; the functions do the same for one call.

>>> from tempfile import TemporaryDirectory
>>> from heritage_align import Pipeline, Store, TextItem, build_index, dataset_sources, load_recipe
>>> from heritage_align.data import Motifs
>>> from heritage_align.search import search
>>> motifs = Motifs("test", artworks=3, variants=1)
>>> pipeline, folder = Pipeline(load_recipe("global")), TemporaryDirectory()
>>> report = build_index(pipeline, list(dataset_sources(motifs)), folder.name)
>>> run = search(pipeline, Store.open(folder.name), [TextItem("q1", motifs.texts[0].text)], top_k=1)
>>> run.ids
[['test-00000-0']]
"""

from heritage_align.search.calibrate import calibrate, known_texts
from heritage_align.search.details import Detail
from heritage_align.search.everyday import everyday_texts
from heritage_align.search.once import rank, rerank, search, search_images
from heritage_align.search.relevance import Calibration, ScoreLaw, write_calibration
from heritage_align.search.searcher import Searcher
from heritage_align.search.texts import search_texts

__all__ = [
    "Calibration",
    "Detail",
    "ScoreLaw",
    "Searcher",
    "calibrate",
    "everyday_texts",
    "known_texts",
    "rank",
    "rerank",
    "search",
    "search_images",
    "search_texts",
    "write_calibration",
]
