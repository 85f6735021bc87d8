"""A searcher: a pipeline and an open store that answer many queries."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import TracebackType

import torch
from PIL.Image import Image
from torch import Tensor

from heritage_align.errors import DataError, Note, StoreError
from heritage_align.features import boxes_of, one_image, one_text
from heritage_align.pipeline import Pipeline
from heritage_align.planning import compares_regions, refuse_texts, scores_in_place, takes_features
from heritage_align.search.details import Detail, encode_details
from heritage_align.search.device import DeviceScorer
from heritage_align.search.first_stage import FirstStage, HeldFirstStage
from heritage_align.search.last_look import LastLook, in_one_column
from heritage_align.search.regions import RegionAnswer, RegionQuery, RegionSearch
from heritage_align.search.relevance import (
    Calibration,
    check_bound,
    depth_of,
    fitting,
    judged,
    no_calibration,
    read_calibration,
)
from heritage_align.search.resident import Progress, ResidentVectors, memory_for
from heritage_align.search.scoring import (
    CandidateScorer,
    FoldedScorer,
    GatheredScorer,
    Holders,
    MappedScorer,
    refuse_not_finite,
    to_host,
    wanted_by,
)
from heritage_align.store import Store
from heritage_align.types import Hit, ImageFeatures, Run, TextFeatures, TextItem


class Searcher:
    """Answers queries from a store, many or one at a time, from any number of threads.

    On the CPU regions are scored where they lie in the store's mapped files. On a GPU as much of the store as
    `runtime.device_memory` allows stays there, and the rest passes through it. Scores are those of
    `Pipeline.score` on the same features: to the bit on the CPU, within the kernels' tolerance on a GPU.

    A store that is rebuilt, cut or deleted underneath raises StoreError that names it.

    Example:
        >>> with Searcher.open(pipeline, "store") as searcher:  # doctest: +SKIP
        ...     searcher.search([TextItem("q", "蓝地缠枝莲纹")]).hits("q")[0].id
        'p7.jpg'

    Attributes:
        pipeline: of the configuration that the store was made with, or one that differs only in how it compares.
        store: the features.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        store: Store,
        *,
        resident: bool = True,
        progress: Progress | None = None,
        holders: Holders | None = None,
    ) -> None:
        """Get ready; unless `resident` is False this opens an index that is kept, and uploads the store to a GPU.

        Args:
            pipeline: encodes queries and scores.
            store: opened with ``expect=pipeline.identity()``.
            resident: whether a GPU keeps the store, for a handful of queries the upload does not pay; and whether an
                index that is kept (`protocols.KeptIndex`) is opened, or built, before the first search.
            progress: called with bytes uploaded since the last call, and bytes in all.
            holders: of the store, which look for the nearest vectors and score in place of this process.
        """
        self.pipeline = pipeline
        self.store = store
        self._holders = holders
        self._last = None if pipeline.config.last is None else LastLook(pipeline, store=store)
        self._responds = store.has_regions and compares_regions(pipeline.config)
        device, in_place = pipeline.device, store.has_regions and scores_in_place(pipeline.config.similarity)
        here = resident and holders is None
        budget = memory_for(pipeline.config.runtime.device_memory, device) if here else 0
        self._vectors = ResidentVectors(store, device, budget, [store.first_stage_name])
        self._first_stage: FirstStage | HeldFirstStage
        if holders is None:
            self._first_stage = FirstStage(pipeline, store, self._vectors, ready=resident)
        else:
            self._first_stage = HeldFirstStage(pipeline, store, holders)
        self._scorer: CandidateScorer
        if holders is not None:
            self._scorer = holders
        elif store.exact_first_stage:
            self._scorer = FoldedScorer(store)
        elif not in_place:
            self._scorer = GatheredScorer(pipeline, store)
        elif device.type == "cpu":
            self._scorer = MappedScorer(pipeline, store)
        else:
            self._scorer = DeviceScorer(pipeline, store, self._vectors, budget - self._vectors.nbytes, progress)

    @classmethod
    def open(
        cls, pipeline: Pipeline, path: str | Path, *, resident: bool = True, progress: Progress | None = None
    ) -> Searcher:
        """Open a store and a searcher of it, where the pipeline's executor has it searched.

        Raises:
            StoreError: another configuration made the store.
        """
        return pipeline.executor.open_searcher(pipeline, path, resident=resident, progress=progress)

    @classmethod
    def open_here(
        cls,
        pipeline: Pipeline,
        path: str | Path,
        *,
        part: tuple[int, int] | None = None,
        resident: bool = True,
        progress: Progress | None = None,
        holders: Holders | None = None,
    ) -> Searcher:
        """Open a store and a searcher of it in this process, whatever the pipeline's executor.

        Args:
            pipeline: as of `Searcher`.
            path: the store's folder.
            part: as of `Store.open`; rows are then those of the part.
            resident, progress, holders: as of `Searcher`.

        Raises:
            StoreError: another configuration made the store.
        """
        memory = pipeline.config.runtime.host_memory
        store = Store.open(path, expect=pipeline.identity(), host_memory=memory, part=part)
        return cls(pipeline, store, resident=resident, progress=progress, holders=holders)

    def __enter__(self) -> Searcher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give memory back: pages of the store's files, and what of it a GPU keeps."""
        self.store.close()
        self._first_stage.close()
        self._vectors.clear()
        if self._holders is not None:
            self._holders.close()
        if isinstance(self._scorer, DeviceScorer):
            self._scorer.clear()
        elif isinstance(self._scorer, MappedScorer):
            self._scorer.close()

    def search(
        self,
        items: Sequence[TextItem],
        *,
        top_k: int | None = None,
        candidates: int | None = None,
        min_relevance: float | None = None,
        last_look: bool = True,
    ) -> Run:
        """Answer text queries.

        Where the similarity folds (global, LACLIP, WCA) the first stage is the exact answer. Else it picks
        `candidates` images by the global cosine, and the full similarity ranks these. An index that is kept (faiss, a
        database) picks `candidates` in both cases. With `search.last` a reranker looks at the best of them: their
        scores are then its own, and the rest follows below (`in_one_column`).

        Args:
            items: queries; their phrases, if they have any, are used by `annotated` fragments.
            top_k: answers a query; `search.top_k` of the configuration by default. A smaller store gives fewer.
            candidates: images handed to the full similarity; `search.candidates` by default, at least `top_k`.
            min_relevance: answers of less relevance (`Calibration`) are left out, before anything is looked at; a query
                that nothing fits has none.
            last_look: False leaves it out.

        Raises:
            ConfigError: `search.last` takes no texts, or no data set has the store's pictures.
            DataError: no query, a blank one, a number below 1, or `min_relevance` not in 0..1.
            StoreError: the store holds no images, is damaged, or was changed since it was opened; with `min_relevance`,
                it has no calibration for this recipe and this many candidates, or one that is out of date.
        """
        if last_look and self._last is not None:
            lines = self._answers(items, top_k, candidates, min_relevance, self._last, regions=False)
            ids, scores_of = [[hit.id for hit in hits] for hits in lines], [in_one_column(hits) for hits in lines]
            return Run(tuple(item.id for item in items), ids, scores_of, tag=self.pipeline.config.name)
        texts, rows, scores = self._search(items, top_k, candidates)
        calibration = self._bound(top_k, candidates, min_relevance)
        run = self._run(texts.ids, rows, scores)
        if calibration is None or min_relevance is None:
            return run
        # Best first, and the relevance never rises as scores fall: what fits is the head of a line.
        laws = [calibration.of(item.text) for item in items]
        counts = [sum(law.relevance(score) >= min_relevance for score in line) for law, line in zip(laws, run.scores)]
        ids = [line[:count] for line, count in zip(run.ids, counts)]
        return replace(run, ids=ids, scores=[line[:count] for line, count in zip(run.scores, counts)])

    def hits(
        self,
        items: Sequence[TextItem],
        *,
        top_k: int | None = None,
        candidates: int | None = None,
        min_relevance: float | None = None,
        last_look: bool = True,
    ) -> list[list[Hit]]:
        """Answer text queries as `search` does, each hit with the best region of every phrase where there are regions.

        Hits say their relevance where the store has a calibration for this recipe and this many candidates.

        Raises:
            ConfigError, DataError, StoreError: as `search`.
        """
        last = self._last if last_look else None
        return self._answers(items, top_k, candidates, min_relevance, last, regions=self._responds)

    def _answers(
        self,
        items: Sequence[TextItem],
        top_k: int | None,
        candidates: int | None,
        min_relevance: float | None,
        last: LastLook | None,
        *,
        regions: bool,
    ) -> list[list[Hit]]:
        wanted = self.pipeline.config.search.top_k if top_k is None else top_k
        if last is not None:
            last.ready_for_texts()
        reach = wanted if last is None else self._reach(wanted, candidates, last)
        texts, rows, scores = self._search(items, reach, candidates)
        calibration = self._bound(top_k, candidates, min_relevance)
        ids = [str(number) for number in range(len(items))]  # of the places: two queries may have one id
        run = self._run(tuple(ids), rows, scores)
        answers = [run.hits(number) for number in ids]
        if regions:
            found = self.regions(rows, texts, items)
            answers = [
                [replace(hit, regions=of_hit) for hit, of_hit in zip(hits, line)] for hits, line in zip(answers, found)
            ]
        if calibration is not None:
            answers = [judged(hits, calibration.of(item.text)) for item, hits in zip(items, answers)]
        if min_relevance is not None:
            answers = [fitting(hits, min_relevance) for hits in answers]
        return answers if last is None else [hits[:wanted] for hits in last.ranked(items, answers)]

    def _reach(self, top_k: int, candidates: int | None, last: LastLook) -> int:
        """Return how many answers of the similarity are wanted, so that the last look has its own."""
        scored = self.pipeline.config.search.candidates if candidates is None else candidates
        self._check(top_k, scored)
        return max(top_k, last.count if self.store.exact_first_stage else min(last.count, scored))

    def calibration(self, top_k: int | None = None, candidates: int | None = None) -> Calibration:
        """Return what the scores of a search mean; it is read once.

        Args:
            top_k, candidates: as of `search`: among more candidates the best score of any query is higher.

        Raises:
            StoreError: the store has no calibration for this recipe and this many candidates, it is damaged, or the
                store was changed since it was made.
        """
        found, settings = self._calibration, self.pipeline.config.search
        if found is None:
            raise no_calibration(self.pipeline, self.store)
        if isinstance(found, StoreError):
            raise StoreError(str(found))
        asked = max(
            settings.candidates if candidates is None else candidates, settings.top_k if top_k is None else top_k
        )
        depth = depth_of(self.pipeline, self.store, asked)
        if depth != found.depth:
            raise StoreError(
                f"{self.store.path}: is calibrated for {found.depth} candidates a query, not for {depth}; set "
                "search.candidates in the config and calibrate it"
            )
        return found

    @property
    def calibration_fault(self) -> str | None:
        """Why the store's calibration for this recipe is not used: it is damaged or out of date; else None."""
        return str(self._calibration) if isinstance(self._calibration, StoreError) else None

    @cached_property
    def _calibration(self) -> Calibration | StoreError | None:
        try:
            return read_calibration(self.pipeline, self.store)
        except StoreError as error:  # kept: it is no matter of a search that does not ask for it
            return error

    def _bound(self, top_k: int | None, candidates: int | None, min_relevance: float | None) -> Calibration | None:
        """Return what hits are judged by; without `min_relevance` None where there is nothing to judge them by."""
        if min_relevance is not None:
            check_bound(min_relevance)
            return self.calibration(top_k, candidates)
        if not isinstance(self._calibration, Calibration):
            return None
        try:
            return self.calibration(top_k, candidates)
        except StoreError:
            return None

    def regions(
        self, rows: Tensor, texts: TextFeatures, items: Sequence[TextItem]
    ) -> list[list[tuple[RegionAnswer, ...]]]:
        """Say which region of an image answers which phrase of a text.

        Args:
            rows: ``(n_texts, k)`` int64 rows of the store; each image is read once.
            texts: features of the queries.
            items: the queries.

        Returns:
            For every text and row ``(phrase, (x0, y0, x1, y1), score)`` a phrase, boxes as fractions of width and
            height; none for an image without regions.
        """
        lines = rows.tolist()
        with torch.inference_mode():
            images, boxes = self._images_at(rows.unique())
            best: list[Tensor] = []
            for place, line in enumerate(lines):
                text = one_text(texts, place)
                best += [self._best_regions(images[row], text) for row in line]
            # All at once: on a GPU every answer that the host waits for costs 30 microseconds.
            lengths = [len(part) for part in best]
            found = iter(torch.cat(best).cpu().split(lengths)) if best else iter(())
        return [
            [_answers(next(found).tolist(), boxes[row], texts, place, item) for row in line]
            for place, (item, line) in enumerate(zip(items, lines))
        ]

    def search_details(
        self,
        details: Sequence[Detail],
        *,
        text: str | TextItem | None = None,
        weight: float = 0.5,
        top_k: int | None = None,
        candidates: int | None = None,
        last_look: bool = True,
    ) -> list[Hit]:
        """Find the images that show a detail, or several together, or a detail and what a text says.

        Every detail and every phrase of the text takes the region of an image that is nearest to it; the score is the
        mean of these cosines, that of the details with `1 - weight` and that of the phrases with `weight`. The regions
        of a hit are those that answered, under the details' names and the phrases.

        The first stage looks at every region of the store and hands on the images of the nearest to each detail and
        phrase. For a single detail that is the exact answer.

        With a `search.last` that looks for details (`DetailReranker`) the best of them are then ranked by the mean of
        what it scores the details, equal ones as before, and the rest follows; where it found a detail is the detail's
        region. Text and weight have their say in which pictures are looked at, and none in the look; with a weight of 1
        nothing looks. One that looks for texts alone is left out, and a `Note` says so.

        Args:
            details: one query together.
            text: what the images should show besides.
            weight: of the text, 0 to 1; the cosines are added as they are.
            top_k: answers; `search.top_k` of the configuration by default.
            candidates: images that the first stage finds at least; `search.candidates` by default, at least `top_k`.
            last_look: False leaves it out.

        Raises:
            ConfigError: with `search.last`, no data set has the store's pictures, or its files are missing.
            DataError: no detail, a box outside its picture, a blank text, or a number out of range; with `search.last`,
                not one picture can be looked at.
            StoreError: the store has no regions or no images, is damaged, or was changed since it was opened.
        """
        if not details or not all(isinstance(detail, Detail) for detail in details):
            raise DataError(f"search: expected a list of at least one Detail, got {details!r}")
        if not 0 <= weight <= 1:
            raise DataError(f"search: weight is {weight}, expected 0 to 1")
        among, start = self._among_regions, time.perf_counter()
        wanted = self.pipeline.config.search.top_k if top_k is None else top_k
        look = self._last if last_look and self._last is not None and self._last.takes_details else None
        if text is not None and weight == 1:
            look = None
        if look is not None:
            look.pictures()  # a data set that is missing is said before anything is encoded
        elif last_look and self.note_on_details is not None:
            warnings.warn(self.note_on_details, Note, stacklevel=2)
        with torch.inference_mode():
            groups: list[tuple[Sequence[str], Tensor, float]] = []
            words = 0.0
            if text is not None:
                item = text if isinstance(text, TextItem) else TextItem("query", text)
                encoded, words = self.pipeline.encode_texts([item]), weight
                if encoded.fragments is not None and encoded.phrases and encoded.phrases[0]:
                    groups.append((encoded.phrases[0], encoded.fragments.item(0), words))
                else:
                    groups.append(((item.text,), encoded.global_features, words))
            names = [detail.name for detail in details]
            groups.insert(0, (names, encode_details(self.pipeline, details), 1 - words))
            reach = wanted if look is None else self._reach(wanted, candidates, look)
            hits = self._among(among, RegionQuery.of(groups), reach, candidates, (), start)
        return hits if look is None else look.ranked_by_details(details, hits)[:wanted]

    @property
    def last_look_fault(self) -> str | None:
        """Why `search.last` cannot look at the store's pictures, None where it can, or there is none.

        A search would end in an error; who set it of his own accord leaves it out (`last_look=False`).
        """
        return None if self._last is None else self._last.fault()

    @property
    def note_on_details(self) -> str | None:
        """What is to be known about answers to details: `search.last` looks for texts alone; else None."""
        if self._last is None or self._last.takes_details:
            return None
        assert self.pipeline.config.last is not None
        name = self.pipeline.config.last.spec.name
        return f"search.last: {name!r} looks for texts alone; answers to details are ranked without it"

    def search_regions(
        self,
        regions: Sequence[tuple[str, int | Sequence[float]]],
        *,
        top_k: int | None = None,
        candidates: int | None = None,
    ) -> list[Hit]:
        """Find more like regions of the store itself; the images that they are of are left out.

        Args:
            regions: one query together: an image's id, and the region's number in it from 0, or its box as a hit's
                answer gives it.
            top_k: as `search_details`.
            candidates: as `search_details`.

        Raises:
            DataError: no region, or an image has no such region.
            StoreError: as `search_details`; the store has no such image.
        """
        if not regions:
            raise DataError("search: there is no region to search more of")
        among, start = self._among_regions, time.perf_counter()
        with torch.inference_mode():
            found = [among.region(image_id, region) for image_id, region in regions]
            names = [image_id for image_id, _ in regions]
            query = RegionQuery.of([(names, torch.cat([vector for vector, _ in found]), 1.0)])
            return self._among(among, query, top_k, candidates, [row for _, row in found], start)

    @cached_property
    def _among_regions(self) -> RegionSearch:
        self._check(1, 1)
        return RegionSearch(self.store, self.pipeline.block_index, self.pipeline.device)

    def _among(
        self,
        among: RegionSearch,
        query: RegionQuery,
        top_k: int | None,
        candidates: int | None,
        left_out: Sequence[int],
        start: float,
    ) -> list[Hit]:
        settings = self.pipeline.config.search
        top_k = settings.top_k if top_k is None else top_k
        candidates = settings.candidates if candidates is None else candidates
        self._check(top_k, candidates)
        self.store.check()
        rows, scores = among.best(query, top_k, candidates, left_out)
        answers = among.answers(query, rows)
        self.pipeline.finished("search", 1, time.perf_counter() - start)
        return [
            Hit(self.store.ids[row], score, rank, answer)
            for rank, (row, score, answer) in enumerate(zip(rows.tolist(), scores.tolist(), answers), start=1)
        ]

    def search_images(
        self,
        images: Sequence[Image],
        ids: Sequence[str],
        *,
        text: str | TextItem | None = None,
        weight: float = 0.5,
        top_k: int | None = None,
    ) -> Run:
        """Answer image queries with similar images: the cosine of the whole images' vectors.

        A picture that is in the store itself comes first, with a cosine of 1 but for the rounding of the storage.

        Args:
            images: upright RGB pictures.
            ids: names of the queries, by which features that were computed before are looked up.
            text: what the images should show besides; its cosine with them is added with `weight`, the pictures' with
                `1 - weight`.
            weight: of the text, 0 to 1.
            top_k: answers a query; `search.top_k` by default.

        Raises:
            DataError: no query, a blank text, or a number out of range.
            StoreError: the store holds no images, is damaged, or was changed since it was opened.
        """
        pipeline = self.pipeline
        top_k = pipeline.config.search.top_k if top_k is None else top_k
        self._check(top_k, top_k)
        if not images:
            raise DataError("search: there is no query")
        if not 0 <= weight <= 1:
            raise DataError(f"search: weight is {weight}, expected 0 to 1")
        with torch.inference_mode():
            if takes_features(pipeline.config):
                vectors = pipeline.encode_images(images, ids).global_features
            else:
                pixels = torch.stack([pipeline.encoder.prepare(image) for image in images])
                vectors = pipeline.encoder.encode_pixels(pixels).global_features
            if text is not None:
                item = text if isinstance(text, TextItem) else TextItem("query", text)
                words = pipeline.encode_texts([item]).global_features
                vectors = (1 - weight) * vectors.float() + weight * words.float()
            depth = pipeline.config.search.candidates
            rows, scores = self._first_stage.best("global", vectors, top_k, depth)
        rows, scores = to_host(rows, scores)
        refuse_not_finite(self.store, rows, scores)
        return self._run(tuple(ids), rows, scores)

    def rerank(self, run: Run, items: Sequence[TextItem] | Mapping[str, TextItem]) -> Run:
        """Rescore every query's candidates of a run, for example one that was read from TREC.

        With `search.last` a reranker looks at the best of them, as in `search`.

        Args:
            run: candidates; equal new scores keep their order.
            items: the queries of the run, by id or in any order.

        Raises:
            ConfigError: as `search`.
            DataError: a query of the run has no text, or a candidate occurs twice.
            StoreError: a candidate is not in the store, the store is damaged or was changed since it was opened.
        """
        refuse_texts(self.pipeline.config)
        texts, after = self._rescored(run, items)
        if self._last is not None and run.query_ids:
            lines = self._last.ranked([texts[query] for query in run.query_ids], list(map(after.hits, run.query_ids)))
            ids, scores = [[hit.id for hit in hits] for hits in lines], list(map(in_one_column, lines))
            return replace(after, ids=ids, scores=scores)
        return after

    def _rescored(
        self, run: Run, items: Sequence[TextItem] | Mapping[str, TextItem]
    ) -> tuple[dict[str, TextItem], Run]:
        """Return the queries by id, and the run by the similarity alone."""
        texts = dict(items) if isinstance(items, Mapping) else {item.id: item for item in items}
        unknown = [query for query in run.query_ids if query not in texts]
        if unknown:
            raise DataError(
                f"rerank: {len(unknown)} of {len(run.query_ids)} queries of the run have no text, "
                f"the first: {', '.join(map(repr, unknown[:3]))}"
            )
        for query, candidates in zip(run.query_ids, run.ids):
            if len(set(candidates)) != len(candidates):
                raise DataError(f"rerank: query {query!r} has a candidate twice")
        if not run.query_ids:
            return texts, run
        start = time.perf_counter()
        lengths = [len(candidates) for candidates in run.ids]
        rows = torch.full((len(lengths), max(lengths)), -1, dtype=torch.int64)
        for line, candidates in enumerate(run.ids):
            rows[line, : len(candidates)] = torch.tensor([self.store.row(i) for i in candidates], dtype=torch.int64)
        features = self.pipeline.encode_texts([texts[query] for query in run.query_ids])
        rows, scores = _best(self.score(features, rows), rows, max(lengths))
        # Missing candidates score -inf and so come last; every line is cut to its own length.
        ids = [[self.store.ids[row] for row in line[:n]] for line, n in zip(rows.tolist(), lengths)]
        values = [line[:n] for line, n in zip(scores.tolist(), lengths)]
        self.pipeline.finished("rerank", len(run.query_ids), time.perf_counter() - start)
        return texts, Run(run.query_ids, ids, values, tag=self.pipeline.config.name)

    def rank(self, query: str | TextItem, candidates: Sequence[str], top_k: int | None = None) -> list[Hit]:
        """Rank candidate images for one query, best first; ties keep the order of the candidates.

        With `search.last` a reranker looks at the best of them.

        Args:
            query: a text, or an item with annotated phrases.
            candidates: image ids of the store.
            top_k: how many to return; all by default.

        Example:
            >>> searcher.rank("蓝地缠枝莲纹", ["a.jpg", "b.jpg"])[0].id  # doctest: +SKIP
            'b.jpg'

        Raises:
            ConfigError: as `search`.
            DataError: the query is blank, a candidate occurs twice, or `top_k` is below 1.
            StoreError: as `rerank`.
        """
        if top_k is not None and top_k < 1:
            raise DataError(f"rank: top_k is {top_k}, expected at least 1")
        refuse_texts(self.pipeline.config)
        item = query if isinstance(query, TextItem) else TextItem("query", query)
        if not candidates:
            return []
        _, ranked = self._rescored(Run((item.id,), [list(candidates)], [[0.0] * len(candidates)]), [item])
        hits = ranked.hits(item.id)
        return (hits if self._last is None else self._last.ranked([item], [hits])[0])[:top_k]

    def nearest(self, name: str, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Find the images whose vectors have the highest dot products with queries: the first stage alone.

        Args:
            name: of the vectors, ``global`` or ``folded``.
            queries: ``(n_queries, dim)``.
            k: images a query.

        Returns:
            int64 rows of the store and fp32 scores, both ``(n_queries, min(k, n))`` on the CPU, best first, equal
            scores by ascending row; a score of damaged features is not finite.

        Raises:
            StoreError: the store was changed since it was opened.
        """
        with torch.inference_mode():
            rows, scores = to_host(*self._first_stage.best(name, queries, k, k))
        return rows, scores

    def score(self, texts: TextFeatures, rows: Tensor) -> Tensor:
        """Score candidates by their rows.

        Args:
            texts: features of the queries (`Pipeline.encode_texts`).
            rows: ``(n_texts, k)`` int64 rows of the store, -1 for none.

        Returns:
            fp32 ``(n_texts, k)`` on the CPU, -inf for none.

        Raises:
            ValueError: a row is not in the store, or the shape does not fit.
            StoreError: the store is damaged or was changed since it was opened.
        """
        if rows.ndim != 2 or len(rows) != len(texts):
            raise ValueError(f"rows: expected ({len(texts)}, k), got {tuple(rows.shape)}")
        if rows.numel():
            lowest, highest = torch.stack(rows.aminmax()).tolist()
            if lowest < -1 or highest >= len(self.store):
                raise ValueError(f"rows: expected rows of 0..{len(self.store) - 1}, or -1; got {lowest}..{highest}")
        self.store.check()
        with torch.inference_mode():
            scores = self._scorer.score(texts, rows).float().cpu()
        refuse_not_finite(self.store, rows, scores)
        return scores

    def score_all(self, texts: TextFeatures) -> Tensor:
        """Return fp32 ``(n_images, n_texts)``, the full similarity of every image of the store with every text.

        Raises:
            StoreError: the store is damaged or was changed since it was opened.
        """
        self.store.check()
        with torch.inference_mode():
            scores = self._scorer.score_all(texts)
        refuse_not_finite(self.store, torch.arange(len(scores))[:, None].expand_as(scores), scores)
        return scores

    def _search(
        self, items: Sequence[TextItem], top_k: int | None, candidates: int | None
    ) -> tuple[TextFeatures, Tensor, Tensor]:
        settings = self.pipeline.config.search
        top_k = settings.top_k if top_k is None else top_k
        candidates = settings.candidates if candidates is None else candidates
        self._check(top_k, candidates)
        if isinstance(items, (str, TextItem)):
            raise DataError(
                f"search: expected a list of TextItem, got {items!r}; one query is [TextItem('q', 'a text')]"
            )
        if not items:
            raise DataError("search: there is no query")
        start = time.perf_counter()
        texts = self.pipeline.encode_texts(items)
        name, queries, depth = self.store.first_stage_name, texts.global_features, max(candidates, top_k)
        with torch.inference_mode():
            if self.store.exact_first_stage:
                rows, scores = to_host(*self._first_stage.best(name, queries, top_k, depth))
            else:
                rows, scores = self._first_stage.candidates(name, queries, depth)
                first, largest = rows[:, :1], scores[:, :1]  # what is not finite comes first
                rows, scores = _best(self._scorer.score(texts, rows), rows, top_k)
                # Looked at when all is queued: the host waits once for a query's answer from a GPU.
                first, largest, rows, scores = to_host(first, largest, rows, scores)
                refuse_not_finite(self.store, first, largest)
        refuse_not_finite(self.store, rows, scores)
        self.pipeline.finished("search", len(items), time.perf_counter() - start)
        return texts, rows, scores

    def _check(self, top_k: int, candidates: int) -> None:
        for name, value in (("top_k", top_k), ("candidates", candidates)):
            if not isinstance(value, int) or value < 1:
                raise DataError(f"search: {name} is {value}, expected a whole number of at least 1")
        if not len(self.store):
            raise StoreError(f"{self.store.path}: holds no images")

    def _run(self, ids: tuple[str, ...], rows: Tensor, scores: Tensor) -> Run:
        found = [[self.store.ids[row] for row in line] for line in rows.tolist()]
        return Run(ids, found, scores.tolist(), tag=self.pipeline.config.name)

    def _images_at(self, wanted: Tensor) -> tuple[dict[int, ImageFeatures], dict[int, Tensor | None]]:
        """Return the features of images, each where the similarity works, and their boxes on the host, by row."""
        on_cpu = self.pipeline.device.type == "cpu"
        kept = self._scorer.kept if isinstance(self._scorer, DeviceScorer) else None
        count = 0 if kept is None else len(kept)
        missing = wanted[wanted >= count]
        copied = None if on_cpu else self.store.gather(missing, self.pipeline.device)
        places = {row: place for place, row in enumerate(missing.tolist())}
        global_features = wanted_by(self.pipeline, self.store).global_features and on_cpu
        numbers = torch.searchsorted(self.store.starts, wanted, right=True) - 1
        shards = {n: self.store.shard_features(n, global_features=global_features) for n in numbers.unique().tolist()}
        images: dict[int, ImageFeatures] = {}
        boxes: dict[int, Tensor | None] = {}
        for row, number in zip(wanted.tolist(), numbers.tolist()):
            shard, local = shards[number], row - int(self.store.starts[number])
            boxes[row] = boxes_of(shard, local)
            if kept is not None and row < count:
                images[row] = one_image(kept, row)
            else:
                images[row] = one_image(shard, local) if copied is None else one_image(copied, places[row])
        return images, boxes

    def _best_regions(self, image: ImageFeatures, text: TextFeatures) -> Tensor:
        """Return fp64 ``(n_phrases, 2)`` on the image's device: the best region's score, and its number."""
        if image.regions is None or not image.regions.total:
            return torch.empty(0, 2, dtype=torch.float64, device=text.global_features.device)
        return torch.stack([part.double() for part in self.pipeline.similarity.respond(image, text).float().max(1)], 1)


def _answers(
    best: list[list[float]], boxes: Tensor | None, texts: TextFeatures, place: int, item: TextItem
) -> tuple[RegionAnswer, ...]:
    """Put together the answers of one image to one text."""
    if boxes is None or not best:
        return ()
    phrases = texts.phrases[place] if texts.phrases and len(best) == len(texts.phrases[place]) else (item.text,)
    return tuple((phrase, tuple(boxes[int(n)].tolist()), score) for phrase, (score, n) in zip(phrases, best))


def _best(scores: Tensor, rows: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """Sort candidates by score; ties keep the candidates' order. Returns rows and scores ``(n_texts, top_k)``."""
    values, order = scores.sort(dim=1, descending=True, stable=True)
    return rows.to(order.device).gather(1, order)[:, :top_k], values[:, :top_k]
