"""Start an alignment model's projections from a CCA of whole images and bags of words."""

from __future__ import annotations

import torch
from torch import Tensor

from heritage_align.errors import ConfigError, DataError
from heritage_align_plugins.alignment.cca import Cca, fit_cca
from heritage_align_plugins.alignment.collected import Collected
from heritage_align_plugins.alignment.config import WarmStart
from heritage_align_plugins.alignment.deepfrag import sums
from heritage_align_plugins.alignment.model import AlignmentModel
from heritage_align_plugins.alignment.text.bag import BagOfWords
from heritage_align_plugins.alignment.text.tokens import Vocabulary


def pooled(data: Collected, pooling: str) -> Tensor:
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


def start_from_cca(model: AlignmentModel, data: Collected, settings: WarmStart, pooling: str = "both") -> Cca:
    """Set the image projection and the bag of words to a CCA's; directions beyond the CCA's are 0.

    The other text models are left as they are, their outputs add to the bag's.

    Raises:
        ConfigError: the model has no bag of words.
        DataError: the training pictures or captions do not vary.
    """
    if "bag" not in model.text:
        raise ConfigError(["train.warm_start: starts a bag of words; add bag to train.model.text"])
    bag = model.text["bag"]
    assert isinstance(bag, BagOfWords)
    x = (pooled(data, pooling)[data.rows] - model.image.mean.cpu()) / model.image.scale.cpu()
    y = bags(model.vocabulary, [item.text for item in data.items])
    try:
        fit = fit_cca(x, y, model.settings.dim, settings.ridge_image, settings.ridge_text)
    except ValueError as error:
        raise DataError(f"warm start: {error}") from error
    scale = fit.correlations**settings.power
    count = len(scale)
    with torch.no_grad():
        for parameter in (model.image.projection.weight, model.image.projection.bias, bag.embedding.weight, bag.bias):
            parameter.zero_()
        model.image.projection.weight[:count] = (fit.a * scale).T
        model.image.projection.bias[:count] = -(fit.x_mean @ fit.a) * scale
        bag.embedding.weight[:, :count] = fit.b * scale
        bag.bias[:count] = -(fit.y_mean @ fit.b) * scale
    return fit
