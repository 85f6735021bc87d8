"""Start an alignment model's projections from a CCA of pictures and bags of words."""

from __future__ import annotations

import torch
from torch import Tensor

from heritage_align.ops import Ragged
from heritage_align.plugin import ConfigError, DataError
from heritage_align.training import Material
from heritage_align_plugins.alignment.batches import captions_of
from heritage_align_plugins.alignment.cca import fit_cca
from heritage_align_plugins.alignment.config import WarmStart
from heritage_align_plugins.alignment.deepfrag import sums
from heritage_align_plugins.alignment.model import AlignmentModel
from heritage_align_plugins.alignment.text.bag import BagOfWords
from heritage_align_plugins.alignment.text.tokens import Vocabulary
from heritage_align_plugins.alignment.whole import pool_regions


def pooled(data: Material, pooling: str) -> Tensor:
    """Return one vector a picture ``(n, feature_dim)``: the whole image's, the mean of its regions, or their mean."""
    regions = data.images.regions
    assert regions is not None
    means = sums(regions) / regions.lengths.unsqueeze(1)
    if pooling == "both":
        return (means + data.images.global_features) / 2
    return means if pooling == "regions" else data.images.global_features


def bags(vocabulary: Vocabulary, texts: list[str]) -> Tensor:
    """Return TF-IDF bags ``(n, n_tokens)``, rows of unit length."""
    matrix = torch.zeros(len(texts), len(vocabulary))
    for row, text in enumerate(texts):
        columns, weights = vocabulary.weighted(text)
        matrix[row, columns] = torch.tensor(weights)
    return matrix


def regression(x: Tensor, y: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """Return the map and the offset of a ridge regression, ``x @ map + offset``: ``(dim_x, dim_y)``, ``(dim_y,)``.

    ``map = (C_xx + r I)^-1 C_xy``, covariances divided by n, r as a share of the mean variance of x.
    """
    x, y = x.double(), y.double()
    x_mean, y_mean = x.mean(0), y.mean(0)
    centred = x - x_mean
    covariance = centred.T @ centred / len(x)
    shift = ridge * covariance.diagonal().mean().clamp_min(1e-12) * torch.eye(x.shape[1], dtype=x.dtype)
    weights = torch.linalg.solve(covariance + shift, centred.T @ (y - y_mean) / len(x))
    return weights.float(), (y_mean - x_mean @ weights).float()


def start_from_cca(model: AlignmentModel, data: Material, settings: WarmStart) -> None:
    """Set the projections of pictures and the bag of words to a CCA's; directions beyond the CCA's are 0.

    A picture's captions are one document. Where regions and whole pictures have a map each, that of the regions is the
    ridge regression of the bags' vectors on the mean of a picture's regions by area, so that regions lie near the words
    of their pictures. Other text models begin with a gain of 0, which is learned (Bachlechner et al. 2021: ReZero), so
    that the first scores are the CCA's.

    Raises:
        ConfigError: the model has no bag of words.
        DataError: the training pictures or captions do not vary.
    """
    if "bag" not in model.text:
        raise ConfigError(["train.warm_start: starts a bag of words; add bag to train.model.text"])
    bag = model.text["bag"]
    assert isinstance(bag, BagOfWords)
    pictures, texts = _documents(data, settings.pictures)
    regions = data.images.regions
    assert regions is not None
    raw = Ragged(regions.values.float(), regions.offsets)
    with torch.no_grad():
        if model.whole is not None:
            x = model.whole.standardised(data.images.global_features.float(), raw, data.images.boxes)
            projection = model.whole.projection
        else:
            assert model.image is not None
            x = (pooled(data, settings.pooling) - model.image.mean.cpu()) / model.image.scale.cpu()
            projection = model.image.projection
    y = bags(model.vocabulary, texts)
    maps = [projection.weight, projection.bias, bag.embedding.weight, bag.bias]
    own = model.image if model.whole is not None else None  # a map of the regions beside that of the pictures
    if own is not None:
        maps += [own.projection.weight, own.projection.bias]
        means = pool_regions(Ragged((raw.values - own.mean) / own.scale, raw.offsets), data.images.boxes)[pictures]
    views = [x[pictures]]
    if model.settings.own_view:  # the second view knows the whole picture's own feature alone
        views.append(x[pictures] * (torch.arange(x.shape[1]) < model.feature_dim))
    with torch.no_grad():
        if model.gain is not None:
            model.gain.copy_(torch.tensor([float(part is bag) for part in model.text.values()]))
        for parameter in maps:
            parameter.zero_()
        first = 0
        for view, width in zip(views, model.settings.views):
            try:
                fit = fit_cca(view, y, width, settings.ridge_image, settings.ridge_text)
            except ValueError as error:
                raise DataError(f"warm start: {error}") from error
            scale = fit.correlations**settings.power
            block = slice(first, first + len(scale))
            first += width
            projection.weight[block] = (fit.a * scale).T
            projection.bias[block] = -(fit.x_mean @ fit.a) * scale
            bag.embedding.weight[:, block] = fit.b * scale
            bag.bias[block] = -(fit.y_mean @ fit.b) * scale
            if own is not None:
                weights, offset = regression(means, (y - fit.y_mean) @ fit.b * scale, settings.ridge_regions)
                own.projection.weight[block] = weights.T
                own.projection.bias[block] = offset


def _documents(data: Material, most: int) -> tuple[Tensor, list[str]]:
    """Return rows of pictures, `most` at most and evenly spread, and the captions of each as one text."""
    captions = captions_of(data.rows)
    rows = list(captions)
    if len(rows) > most:
        rows = [rows[int(place)] for place in torch.linspace(0, len(rows) - 1, most)]
    return torch.tensor(rows), [" \n ".join(data.items[n].text for n in captions[row]) for row in rows]
