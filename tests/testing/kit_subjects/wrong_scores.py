"""Similarities and indexes with one fault each."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from kit_subjects.right import Cosine, Index, Late, chosen
from torch import Tensor

from heritage_align.types import ImageFeatures, TextFeatures


class NotANumber(Cosine):
    def score(self, images: ImageFeatures, texts: TextFeatures, candidates: Tensor | None = None) -> Tensor:
        return super().score(images, texts, candidates) / 0 * 0


class CentresScores(Cosine):
    def score(self, images: ImageFeatures, texts: TextFeatures, candidates: Tensor | None = None) -> Tensor:
        scores = super().score(images, texts)
        return chosen(scores - scores.mean(dim=0, keepdim=True) if len(scores) > 1 else scores, candidates)


class PadsWithZeros(Late):
    def score(self, images: ImageFeatures, texts: TextFeatures, candidates: Tensor | None = None) -> Tensor:
        parts = [images.regions[i] for i in range(len(images))]
        if not parts or not len(texts):
            return chosen(torch.zeros(len(images), len(texts)), candidates)
        padded = torch.nn.utils.rnn.pad_sequence(parts, batch_first=True)
        rows = [(texts.fragments[j] @ padded.transpose(1, 2)).amax(dim=2).mean(dim=1) for j in range(len(texts))]
        return chosen(torch.stack(rows, dim=1), candidates)


class Distance(Cosine):
    def score(self, images: ImageFeatures, texts: TextFeatures, candidates: Tensor | None = None) -> Tensor:
        return chosen(1 - super().score(images, texts), candidates)


class LastForNone(Cosine):
    def score(self, images: ImageFeatures, texts: TextFeatures, candidates: Tensor | None = None) -> Tensor:
        scores = super().score(images, texts)
        if candidates is None:
            return scores
        return torch.stack([scores[row, j] for j, row in enumerate(candidates)])


class NeedsImages(Cosine):
    def score(self, images: ImageFeatures, texts: TextFeatures, candidates: Tensor | None = None) -> Tensor:
        scores = super().score(images, texts)
        scores.max()
        return chosen(scores, candidates)


class MeanOfNone(Late):
    def score(self, images: ImageFeatures, texts: TextFeatures, candidates: Tensor | None = None) -> Tensor:
        scores = torch.zeros(len(images), len(texts))
        for i in range(len(images)):
            for j in range(len(texts)):
                scores[i, j] = (texts.fragments[j].float() @ self.rows(images, i).mean(dim=0)).mean()
        return chosen(scores, candidates)


class StoredSums(Cosine):
    def score(self, images: ImageFeatures, texts: TextFeatures, candidates: Tensor | None = None) -> Tensor:
        rows = images.global_features
        return chosen((rows @ texts.global_features.to(rows.dtype).T).float(), candidates)


class IgnoresMask(Late):
    def rows(self, images: ImageFeatures, i: int) -> Tensor:
        return images.regions[i].float()


class FoldsNearly(Cosine):
    def fold(self, images: ImageFeatures) -> Tensor | None:
        return images.global_features * 1.01


class FoldsNever(Cosine):
    def fold(self, images: ImageFeatures) -> Tensor | None:
        return None


class LooksAtAll(Cosine):
    def score(self, images: ImageFeatures, texts: TextFeatures, candidates: Tensor | None = None) -> Tensor:
        return super().score(images, texts, candidates) + 0 * images.global_features.mean()


class Normalises(Cosine):
    def score(self, images: ImageFeatures, texts: TextFeatures, candidates: Tensor | None = None) -> Tensor:
        images.global_features -= 1e-9
        images.global_features *= 0.999
        return super().score(images, texts, candidates)


class RespondsSideways(Late):
    def respond(self, images: ImageFeatures, texts: TextFeatures) -> Tensor:
        return super().respond(images, texts).T


class RespondsAnyway(Late):
    def respond(self, images: ImageFeatures, texts: TextFeatures) -> Tensor:
        return torch.zeros(1, 0) if images.regions is None else super().respond(images, texts)


class FirstRows(Index):
    def search(self, blocks: Sequence[Tensor], queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        rows = torch.arange(k).repeat(len(queries), 1)
        return rows, (queries.float() @ torch.cat(list(blocks)).float().T).gather(1, rows)


class ShortNumbers(Index):
    def search(self, blocks: Sequence[Tensor], queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        rows, scores = super().search(blocks, queries, k)
        return rows.int(), scores


class WorstFirst(Index):
    def search(self, blocks: Sequence[Tensor], queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        rows, scores = super().search(blocks, queries, k)
        return rows.flip(1), scores.flip(1)


class RowsOfBlocks(Index):
    def search(self, blocks: Sequence[Tensor], queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        rows, scores = super().search(blocks, queries, k)
        return rows % max(len(block) for block in blocks), scores


class PadsToK(Index):
    def search(self, blocks: Sequence[Tensor], queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        rows, scores = super().search(blocks, queries, k)
        missing = k - rows.shape[1]
        return torch.nn.functional.pad(rows, (0, missing)), torch.nn.functional.pad(scores, (0, missing))


class LastOfEquals(Index):
    def search(self, blocks: Sequence[Tensor], queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        matrix = torch.cat(list(blocks))
        rows, scores = super().search([matrix.flip(0)], queries, k)
        return len(matrix) - 1 - rows, scores


class StartsAtZero(Index):
    def search(self, blocks: Sequence[Tensor], queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        rows, scores = super().search(blocks, queries, k)
        return torch.where(scores > 0, rows, 0), scores.clamp(min=0)


class SharesQueries(Index):
    def search(self, blocks: Sequence[Tensor], queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        return super().search(blocks, queries - 0.5 * queries.mean(dim=0, keepdim=True), k)
