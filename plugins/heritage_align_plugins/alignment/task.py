"""One training run of an alignment model, as the training loop wants it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from heritage_align import ops
from heritage_align.evaluation import evaluate_scores
from heritage_align.ops import Ragged
from heritage_align.plugin import (
    DataError,
    Groups,
    ImageFeatures,
    Similarity,
    SummedSimilarity,
    TextFeatures,
    mean_of_groups,
)
from heritage_align.training import RECALL, Material, distributed
from heritage_align_plugins.alignment.batches import captions_of, epoch_batches
from heritage_align_plugins.alignment.checkpoint import save_model
from heritage_align_plugins.alignment.config import AlignmentTrainerConfig
from heritage_align_plugins.alignment.deepfrag import deepfrag_loss
from heritage_align_plugins.alignment.gathered import all_images, all_rows, all_texts
from heritage_align_plugins.alignment.losses import score_info_nce
from heritage_align_plugins.alignment.model import AlignmentModel

MODEL = "model.safetensors"
_LATENT_SHARE = 0.2
"""DeepFrag: share of the epochs before its labels become latent (10 of the 50 epochs of the paper's training)."""


class AlignmentTask:
    """Model, batches and loss (Sheng et al. 2021, eqs 5 to 7): one hinge a term of the similarity, summed.

    Args:
        model: on its device.
        similarity: scores a batch; a weighted sum gives one loss a term (l_fg and l_gb), with its weight.
        settings: of the trainer.
        train: what is learned from.
        validation: what recall is measured on, or None.
        seed: of the order of the batches.
        raw: whether the features are a proposer's own, for the exported file.
        remembered: what a memory of pairs is made of, where the model has one; None for `train`.
    """

    def __init__(
        self, model: AlignmentModel, similarity: Similarity, settings: AlignmentTrainerConfig, train: Material,
        validation: Material | None, seed: int, raw: bool, remembered: Material | None = None,
    ) -> None:  # fmt: skip
        self.model, self.settings = model, settings
        self.similarity = similarity
        self._terms = similarity.terms if isinstance(similarity, SummedSimilarity) else [(1.0, similarity)]
        self._train, self._validation = train, validation
        self._remembered = remembered or train
        self._seed, self._raw = seed, raw
        self._latent = False
        self._memory_is_now = False  # an epoch's best model is validated and exported: its memory is filled once
        self._device = next(model.parameters()).device

    def parameters(self) -> Iterable[Tensor]:
        """Return the model's parameters."""
        return self.model.parameters()

    def optimizer(self) -> torch.optim.Optimizer:
        """Build Adam, with decoupled decay where the settings ask for it."""
        settings = self.settings
        return torch.optim.AdamW(self.model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)

    def rate(self, update: int, updates: int) -> float:
        """Return the schedule's factor."""
        if self.settings.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * update / updates))
        return 0.1 if self.settings.schedule == "step" and 2 * update >= updates else 1.0

    def begin_epoch(self, epoch: int) -> list[Tensor]:
        """Return this process's share of every batch; a batch that has not a caption for each process is left out."""
        self._latent = epoch >= _LATENT_SHARE * self.settings.epochs
        batches = epoch_batches(self._train.rows, self.settings.batch_size, self._seed, epoch)
        world = distributed.world_size()
        return [batch[distributed.rank() :: world] for batch in batches if len(batch) >= world]

    def step(self, batch: Tensor, scale: Callable[[Tensor], Tensor]) -> Mapping[str, float]:
        """Compute the losses of captions `batch` with their pictures, and the gradients of their sum."""
        self._memory_is_now = False
        self.model.train()
        pictures = self._train.pictures(self._train.rows[batch])
        captions = batch.tolist()
        with torch.autocast(self._device.type, self._precision(), enabled=self.settings.precision != "fp32"):
            images = self._project(pictures)
            texts = self._encode(self._train, captions)
        losses = self._losses(images, texts, self._train.groups_of(captions))
        scale(torch.stack(list(losses.values())).sum()).backward()
        return {name: float(value.detach()) for name, value in losses.items()}

    def validate(self) -> Mapping[str, float]:
        """Return mean recall of all validation pictures against all their texts, and its two directions."""
        if self._validation is None:
            return {}
        self.remember()
        scores = self.scores(self._validation)
        result = evaluate_scores(scores, self._validation.images.ids, self._validation.items)
        directions = {name: direction.mean_recall for name, direction in result.directions.items()}
        return {RECALL: result.mean_recall, **{f"{RECALL} {name}": value for name, value in directions.items()}}

    @torch.no_grad()
    def scores(self, data: Material) -> Tensor:
        """Score all pictures of a data set against all its texts: ``(n_images, n_texts)`` fp32 on the CPU."""
        self.model.eval()
        rows = range(len(data.items))
        images = self._finished_images(self._project(data.images))
        texts = self._finished_texts(self._encode(data, rows), data.groups_of(rows))
        return self.similarity.score(images, texts).float().cpu()

    @torch.no_grad()
    def remember(self) -> None:
        """Fill the model's memory of pairs, where it has one, with the pairs as the model has them now."""
        memory, data = self.model.memory, self._remembered
        if memory is None or self._memory_is_now:
            return
        self.model.eval()
        captions = captions_of(data.rows)
        pictures = torch.tensor(list(captions))
        documents = ["\n".join(data.items[n].text for n in group) for group in captions.values()]
        phrases = [[phrase for n in group for phrase in data.fragments[n]] for group in captions.values()]
        whole, _ = self.model.encode_fragmented(documents, phrases)
        texts, _ = self.model.encode_fragmented([item.text for item in data.items], data.fragments)
        owners = torch.searchsorted(pictures, data.rows)
        unit = self.model.unit
        wholes = self._project(data.pictures(pictures)).global_features
        try:
            memory.fit(unit(wholes), unit(whole), unit(texts), owners.to(self._device))
        except ValueError as error:
            raise DataError(f"train.model.pair_memory: {error}") from error
        self._memory_is_now = True

    def state(self) -> dict[str, Any]:
        """Return the model's tensors."""
        return dict(self.model.state_dict())

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take the model's tensors back."""
        self._memory_is_now = False
        self.model.load_state_dict(dict(state))

    def export(self, folder: Path) -> None:
        """Write ``model.safetensors``."""
        self.remember()
        save_model(self.model, folder / MODEL, features=self._raw)

    def _losses(self, images: ImageFeatures, texts: TextFeatures, groups: Sequence[Groups] | None) -> dict[str, Tensor]:
        settings = self.settings
        if settings.loss == "deepfrag":
            assert images.regions is not None
            assert texts.fragments is not None
            fragments = texts.fragments if groups is None else mean_of_groups(texts.fragments, groups)
            fragment, whole = deepfrag_loss(all_rows(images.regions), all_rows(fragments), latent=self._latent)
            return {"loss fragments": fragment, "loss whole": whole}
        images, texts = all_images(self._unit(images)), all_texts(self._unit_texts(texts, groups))
        losses = {}
        for number, (weight, term) in enumerate(self._terms):
            scores = term.score(images, texts)
            if settings.loss == "hinge":
                loss = ops.hardest_negative_hinge(scores, margin=settings.margin)
            else:
                loss = score_info_nce(scores, settings.temperature)
            name = type(term).__name__.removesuffix("Similarity").lower()
            losses[f"loss {name}" if f"loss {name}" not in losses else f"loss {name} {number}"] = weight * loss
        return losses

    def _encode(self, data: Material, rows: Sequence[int]) -> TextFeatures:
        """Encode captions and their fragments, unnormalised."""
        items, fragments = [data.items[row] for row in rows], [data.fragments[row] for row in rows]
        whole, parts = self.model.encode_fragmented([item.text for item in items], fragments)
        return TextFeatures(tuple(item.id for item in items), whole.float(), _ragged(parts.float(), fragments))

    def _project(self, pictures: ImageFeatures) -> ImageFeatures:
        assert pictures.regions is not None
        raw = Ragged(pictures.regions.values.float().to(self._device), pictures.regions.offsets.to(self._device))
        whole = pictures.global_features.float().to(self._device)
        wholes = self.model.encode_wholes(whole, raw, pictures.boxes)
        regions = Ragged(self.model.encode_regions(whole, raw, pictures.boxes).float(), raw.offsets)
        keep = None if pictures.keep is None else pictures.keep.to(self._device)
        return ImageFeatures(pictures.ids, wholes.float(), regions, keep=keep)

    def _unit(self, images: ImageFeatures) -> ImageFeatures:
        assert images.regions is not None
        regions = Ragged(self.model.unit(images.regions.values), images.regions.offsets)
        return ImageFeatures(images.ids, self.model.unit(images.global_features), regions, keep=images.keep)

    def _unit_texts(self, texts: TextFeatures, groups: Sequence[Groups] | None) -> TextFeatures:
        assert texts.fragments is not None
        fragments = Ragged(self.model.unit(texts.fragments.values), texts.fragments.offsets)
        return TextFeatures(texts.ids, self.model.unit(texts.global_features), _grouped(fragments, groups))

    def _finished_images(self, images: ImageFeatures) -> ImageFeatures:
        """Return the vectors that are compared, as the encoder gives them: there crops are finished as pictures are."""
        assert images.regions is not None
        wholes = self.model.finished(images.global_features, texts=False, whole=True)
        regions = self.model.finished(images.regions.values, texts=False, whole=not self._raw)
        return ImageFeatures(images.ids, wholes, Ragged(regions, images.regions.offsets), keep=images.keep)

    def _finished_texts(self, texts: TextFeatures, groups: Sequence[Groups] | None) -> TextFeatures:
        assert texts.fragments is not None
        wholes = self.model.finished(texts.global_features, texts=True, whole=True)
        fragments = Ragged(
            self.model.finished(texts.fragments.values, texts=True, whole=False), texts.fragments.offsets
        )
        return TextFeatures(texts.ids, wholes, _grouped(fragments, groups))

    def _precision(self) -> torch.dtype:
        return torch.float16 if self.settings.precision == "fp16" else torch.bfloat16


def _ragged(values: Tensor, fragments: Sequence[Sequence[str]]) -> Ragged:
    counts = torch.tensor([0, *(len(split) for split in fragments)]).cumsum(0)
    return Ragged(values, counts.to(values.device))


def _grouped(fragments: Ragged, groups: Sequence[Groups] | None) -> Ragged:
    """Give every group of fragments the mean of its unit rows, as encoding texts does."""
    if groups is None:
        return fragments
    means = mean_of_groups(fragments, groups)
    return Ragged(normalize(means.values, dim=-1), means.offsets.to(means.values.device))
