"""The memory of training pairs: by hand, against a slow reference, and in a whole run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch
from heritage_align_plugins.alignment.pair_memory import PairMemory
from heritage_align_plugins.alignment.settings import PairMemorySettings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from heritage_align.config import load_config
from heritage_align.evaluation.systems import encode_dataset, evaluate_system
from heritage_align.pipeline import Pipeline
from heritage_align.testing import Case, check_component


def memory_of(pictures: Tensor, documents: Tensor, texts: Tensor, owners: Tensor, **settings: float) -> PairMemory:
    memory = PairMemory(PairMemorySettings(**settings), pictures.shape[1])  # type: ignore[arg-type]
    memory.fit(pictures, documents, texts, owners)
    return memory


def random_pairs(n: int, dim: int, captions: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pictures, documents, texts = (unit_rows(rows, dim, generator) for rows in (n, n, n * captions))
    return pictures, documents, texts, torch.arange(n).repeat_interleave(captions)


def unit_rows(n: int, dim: int, generator: torch.Generator | None = None) -> Tensor:
    return normalize(torch.randn(n, dim, generator=generator), dim=1)


def recall_slowly(vector: Tensor, keys: Tensor, values: Tensor, sharpness: float, but: int | None = None) -> Tensor:
    """The formula of the module, a pair at a time in float64."""
    total, answer = 0.0, torch.zeros(values.shape[1], dtype=torch.float64)
    for j, (key, value) in enumerate(zip(keys, values)):
        if j != but:
            weight = math.exp(sharpness * float(vector @ key))
            total, answer = total + weight, answer + weight * value
    return normalize(answer / total, dim=0)


class Slow:
    """The corrected score of a picture and a text by the formulas, without padding or vectors."""

    def __init__(
        self, pictures: Tensor, documents: Tensor, texts: Tensor, owners: Tensor, settings: PairMemorySettings
    ) -> None:
        self.settings = settings
        self.pictures, self.documents = (normalize(rows.double(), dim=1) for rows in (pictures, documents))
        captions = normalize(texts.double(), dim=1)
        own, n = owners.tolist(), len(pictures)
        of_pictures = torch.stack([self.recall(p, False, but=i) for i, p in enumerate(self.pictures)])
        of_texts = torch.stack([self.recall(t, True, but=i) for t, i in zip(captions, own)])
        others = torch.tensor([[i != o for o in own] for i in range(n)])
        inverse = [
            1 / float((self.pictures @ captions.T)[others].std()),
            settings.weight / float((of_pictures @ of_texts.T)[others].std()),
        ]
        self.a, self.b = (part / sum(inverse) for part in inverse)
        self.bank_pictures, self.bank_texts = list(zip(self.pictures, of_pictures)), list(zip(captions, of_texts))
        scores = torch.tensor([[self.plain(p, t) for t in self.bank_texts] for p in self.bank_pictures])
        self.spread = settings.temperature * float(scores[others].std())
        self.centres = (
            sum(self.hub(p, texts=False) for p in self.bank_pictures) / n,
            sum(self.hub(t, texts=True) for t in self.bank_texts) / len(self.bank_texts),
        )

    def recall(self, vector: Tensor, texts: bool, but: int | None = None) -> Tensor:
        keys, values = (self.documents, self.pictures) if texts else (self.pictures, self.documents)
        return recall_slowly(vector, keys, values, self.settings.sharpness, but)

    def plain(self, one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> float:
        return self.a * float(one[0] @ other[0]) + self.b * float(one[1] @ other[1])

    def hub(self, item: tuple[Tensor, Tensor], texts: bool) -> float:
        bank = self.bank_pictures if texts else self.bank_texts
        mean = sum(math.exp(self.plain(item, other) / self.spread) for other in bank) / len(bank)
        return self.spread * math.log(mean)

    def score(self, picture: Tensor, text: Tensor) -> float:
        """S(i, t) - w h(i) - w h(t), the means of h taken off."""
        p, t = normalize(picture.double(), dim=0), normalize(text.double(), dim=0)
        mine, other = (p, self.recall(p, False)), (t, self.recall(t, True))
        hubs = self.hub(mine, False) - self.centres[0] + self.hub(other, True) - self.centres[1]
        return self.plain(mine, other) - self.settings.hubness * hubs


def test_what_is_recalled_by_hand() -> None:
    pictures, texts = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    memory = memory_of(pictures, texts, texts, torch.tensor([0, 1]), sharpness=math.log(3), hubness=0.0)
    # The first picture has cosine 1 with itself, 0 with the other: weights 3/4 and 1/4 of their texts (0, 1), (1, 0).
    vector = memory.finish(torch.tensor([[1.0, 0.0]]), texts=False, whole=True)[0]
    a, b = memory.shares.tolist()
    expected = [math.sqrt(a), 0, math.sqrt(b) / math.sqrt(10), 3 * math.sqrt(b) / math.sqrt(10), 0, 0, 0, 0]
    assert vector.tolist() == pytest.approx(expected, abs=1e-6)
    # Without its own pair each recalls the other's.
    torch.testing.assert_close(memory.bank_pictures[:, 2:], math.sqrt(b) * torch.eye(2))


@hypothesis.settings(max_examples=25, deadline=None)
@hypothesis.given(
    n=st.integers(3, 7), dim=st.integers(2, 6), captions=st.integers(1, 3), seed=st.integers(0, 2**20),
    sharpness=st.sampled_from([0.5, 10.0, 40.0]), weight=st.sampled_from([0.3, 1.0, 2.0]),
    hubness=st.sampled_from([0.0, 0.5, 1.0]), temperature=st.sampled_from([0.5, 1.0, 2.0]),
)  # fmt: skip
def test_the_cosine_is_the_corrected_score(
    n: int, dim: int, captions: int, seed: int, sharpness: float, weight: float, hubness: float, temperature: float
) -> None:
    pairs = random_pairs(n, dim, captions, seed)
    settings = PairMemorySettings(sharpness=sharpness, weight=weight, hubness=hubness, temperature=temperature)
    memory, slow = memory_of(*pairs, **settings.model_dump(exclude={"bank"})), Slow(*pairs, settings)
    pictures, _, texts, _ = random_pairs(4, dim, 1, seed + 1)
    images, words = (memory.finish(rows, texts=t, whole=True) for rows, t in ((pictures, False), (texts, True)))
    lengths = torch.cat([images, words]).norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones_like(lengths))
    found = images @ words.T
    expected = torch.tensor([[slow.score(p, t) for t in texts] for p in pictures], dtype=torch.float32)
    largest = float(memory.hub[3])
    reaches = torch.tensor(
        [[abs(slow.hub(item, t) - slow.centres[t]) < largest for item in items] for t, items in enumerate(
            ([(p, slow.recall(p, False)) for p in normalize(pictures.double(), dim=1)],
             [(w, slow.recall(w, True)) for w in normalize(texts.double(), dim=1)])
        )]
    )  # fmt: skip
    within = reaches[0].unsqueeze(1) & reaches[1].unsqueeze(0)  # beyond, the correction is cut
    factor = 1 + 2 * hubness * largest
    torch.testing.assert_close(factor * found[within], expected[within], atol=2e-5, rtol=1e-4)


def test_phrases_and_regions_are_not_corrected_but_compare_with_each_other() -> None:
    pictures, documents, texts, owners = random_pairs(6, 5, 2, 3)
    memory = memory_of(pictures, documents, texts, owners)
    regions = memory.finish(pictures[:3], texts=False, whole=False)
    phrases = memory.finish(texts[:2], texts=True, whole=False)
    assert not regions[:, 10:].any()
    assert not phrases[:, 10:].any()
    uncorrected = memory_of(pictures, documents, texts, owners, hubness=0.0)
    wholes = (
        uncorrected.finish(pictures[:3], texts=False, whole=True)
        @ uncorrected.finish(texts[:2], texts=True, whole=True).T
    )
    torch.testing.assert_close(regions @ phrases.T, wholes)


def test_a_picture_that_is_near_every_text_loses_its_places() -> None:
    """Five pictures along axes, a sixth in the middle of all: without the correction it is first or second for all."""
    axes = torch.eye(5)
    hub = torch.full((1, 5), 0.6)
    pictures, texts = (normalize(torch.cat(rows), dim=1) for rows in ([axes, hub], [axes + 0.55, hub]))
    owners = torch.arange(6)

    def places(hubness: float) -> list[int]:
        memory = memory_of(pictures, texts, texts, owners, hubness=hubness, sharpness=0.01)
        scores = memory.finish(pictures, texts=False, whole=True) @ memory.finish(texts[:5], texts=True, whole=True).T
        return (scores > scores[5]).sum(0).tolist()  # how many pictures are before the sixth, for each text

    assert places(0.0) == [0] * 5
    assert all(place >= 1 for place in places(1.0))


def test_more_captions_than_the_bank_are_thinned_out_evenly() -> None:
    pairs = random_pairs(10, 4, 5, 0)
    whole, part = memory_of(*pairs), memory_of(*pairs, bank=25)
    assert len(whole.bank_texts) == 50
    assert len(part.bank_texts) == 25
    assert part.shares.tolist() == whole.shares.tolist()
    torch.testing.assert_close(part.bank_texts[-1], whole.bank_texts[-1])


def test_state_of_any_number_of_pairs_is_taken() -> None:
    memory = memory_of(*random_pairs(5, 4, 2, 0))
    for other in (PairMemory(memory.settings, 4), memory_of(*random_pairs(9, 4, 3, 1))):
        other.load_state_dict(memory.state_dict())
        rows = unit_rows(3, 4)
        torch.testing.assert_close(
            other.finish(rows, texts=False, whole=True), memory.finish(rows, texts=False, whole=True)
        )
    with pytest.raises(RuntimeError, match="size mismatch"):
        PairMemory(memory.settings, 3).load_state_dict(memory.state_dict())


def test_rows_by_the_thousand_come_out_as_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = memory_of(*random_pairs(6, 4, 2, 0))
    rows = unit_rows(11, 4)
    expected = memory.finish(rows, texts=True, whole=True)
    monkeypatch.setattr("heritage_align_plugins.alignment.pair_memory.ROWS", 3)
    torch.testing.assert_close(memory.finish(rows, texts=True, whole=True), expected)
    assert memory.finish(rows[:0], texts=True, whole=True).shape == (0, 12)


REMEMBERING = {
    "model": {"dim": 16, "text": ["bag"], "whole": "pooled", "own_view": 0.5, "pair_memory": {}},
    "warm_start": {},
}
LEVELS = {
    "name": "weighted_sum",
    "terms": [{"weight": 0.3, "similarity": {"name": "scan"}}, {"weight": 1.0, "similarity": {"name": "global"}}],
}


def test_a_run_reaches_the_recall_that_it_says_and_its_encoder_conforms(
    small: Any, folder: Path, tmp_path: Path
) -> None:
    config = small.document(folder, epochs=3, **REMEMBERING) | {"similarity": LEVELS}
    outcome = small.train(config, tmp_path)
    pipeline = Pipeline(load_config({**outcome.document, "data": config["train"]["validation"]}))
    assert pipeline.encoder.dim == 2 * 2 * 16 + 4
    result = evaluate_system(pipeline, encode_dataset(pipeline, pipeline.dataset())).result
    assert result.mean_recall == pytest.approx(outcome.metrics["recall"])
    settings = {key: value for key, value in outcome.document["encoder"].items() if key != "name"}
    results = check_component(Case("encoder", "alignment", settings, feature_dim=small.WIDTH))
    assert {result.state for result in results} <= {"passed", "skipped"}


def test_one_picture_is_no_memory() -> None:
    with pytest.raises(ValueError, match="2 pictures at least, got 1"):
        memory_of(*random_pairs(1, 4, 2, 0))
