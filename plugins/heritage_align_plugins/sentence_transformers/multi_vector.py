"""A MultiVectorEncoder with pictures: one vector a token, for late interaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from PIL.Image import Image
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from torch import Tensor
from torch.nn.functional import normalize

from heritage_align.plugin import BuildContext, DataError, EncodedImages, FragmentedTexts
from heritage_align_plugins.sentence_transformers.config import MultiVectorConfig
from heritage_align_plugins.sentence_transformers.grids import cell_boxes
from heritage_align_plugins.sentence_transformers.loading import load_model, refuse_without_pictures
from heritage_align_plugins.transformers.loading import check_texts, first_use, noise, refuse_vectors_not_finite
from heritage_align_plugins.transformers.strips import no_strip


class TokenVectors(NamedTuple):
    """A picture's tokens: ``(n, dim)`` unit rows fp32, and ``(n, 4)`` boxes as fractions of width and height."""

    vectors: Tensor
    boxes: Tensor


class MultiVector:
    """Pictures by the library's ``encode_document``, texts by ``encode_query``; an `Encoder`, a `FeatureEncoder` and a
    `FragmentEncoder`.

    Which tokens count is what the model's files say: masks of documents, expansion of queries. A whole picture or text,
    for the first stage of a search, is the mean of its tokens' vectors: models of this kind are not trained for it.

    Args:
        config: names the model.
        context: device and precision.

    Raises:
        CheckpointError: the model cannot be loaded, or takes no pictures.
    """

    patch_grid = None

    def __init__(self, config: MultiVectorConfig, context: BuildContext) -> None:
        self._model, weights = load_model(MultiVectorEncoder, config, context)
        refuse_without_pictures(self._model, config.model)
        self._config = config
        self._name = f"multi_vector/{weights}"
        self._device = torch.device(context.device)
        self._masks = [module for module in self._model if isinstance(module, MultiVectorMask)]
        with first_use(config.model):
            word, picture = self._queries(["x"])[0], self.encode_pictures([noise()])[0].vectors
        for what, vectors in (("a picture", picture), ("a text", word)):
            refuse_vectors_not_finite(vectors, what, config.model)
        self.dim = int(word.shape[1])

    def fingerprint(self) -> str:
        """Return ``multi_vector/sha256:<of the weights>``."""
        return self._name

    def prepare(self, image: Image) -> Tensor:
        """Raise DataError: the proposer encodes pictures."""
        raise DataError("encoder 'multi_vector' has a vector for every token of a picture: name proposer multi_vector")

    def encode_pixels(self, pixels: Tensor, *, patches: bool = False) -> EncodedImages:
        """Raise DataError: the proposer encodes pictures."""
        raise DataError("encoder 'multi_vector' has a vector for every token of a picture: name proposer multi_vector")

    @torch.inference_mode()
    def encode_pictures(self, images: Sequence[Image]) -> list[TokenVectors]:
        """Encode pictures as documents, at least one, in one batch.

        Raises:
            DataError: the model's mask leaves no token of a picture.
        """
        pictures = [no_strip(image) for image in images]
        options = {} if self._config.document_prompt is None else {"prompt": self._config.document_prompt}
        found: list[dict[str, Any]] = self._model.encode_document(
            pictures, batch_size=len(pictures), output_value=None, show_progress_bar=False, **options
        )
        tokens = []
        for place, features in enumerate(found):
            mask = features["attention_mask"].bool()
            if not bool(mask.any()):
                raise DataError(f"images[{place}]: the mask of {self._config.model} leaves none of its tokens")
            vectors = normalize(features["token_embeddings"][mask].float(), dim=-1)
            boxes = cell_boxes(features, self._model)
            # A module that pools tokens leaves none that a place belongs to.
            kept = boxes[mask.cpu()] if len(boxes) == len(mask) else cell_boxes({}, self._model).expand(len(vectors), 4)
            tokens.append(TokenVectors(vectors, kept))
        return tokens

    @torch.inference_mode()
    def encode_features(self, features: Tensor) -> Tensor:
        """Return token vectors, or the means of pictures', with rows of unit length.

        Raises:
            DataError: they have another width than this model's.
        """
        if features.shape[-1] != self.dim:
            raise DataError(f"token vectors have {features.shape[-1]} dimensions, {self._config.model} has {self.dim}")
        return normalize(features.float().to(self._device), dim=-1)

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Return the means of texts' token vectors, ``(n, dim)`` unit rows fp32.

        Raises:
            ValueError: names the position of a text that is empty or no string.
        """
        return self._means(self._queries(check_texts(texts)))

    @torch.inference_mode()
    def encode_fragmented(self, texts: Sequence[str], fragments: Sequence[Sequence[str]]) -> FragmentedTexts:
        """Encode texts with their tokens (`FragmentEncoder`).

        Raises:
            DataError: the fragments are not those of fragmenter `multi_vector`.
        """
        found = self._queries(check_texts(texts))
        for text, vectors, given in zip(texts, found, fragments, strict=True):
            if len(vectors) != len(given):
                raise DataError(
                    f"text {text!r} has {len(vectors)} tokens and {len(given)} fragments: encoder 'multi_vector' "
                    "compares its own tokens; name fragmenter multi_vector"
                )
        return FragmentedTexts(self._means(found), torch.cat([torch.empty(0, self.dim).to(self._device), *found]))

    def query_tokens(self, text: str) -> tuple[str, ...]:
        """Return the tokens of a text that are scored, as words: marks, instructions and expansions among them."""
        features = self._model.preprocess([text], prompt=self._query_prompt(), task="query")
        for mask in self._masks:
            features = mask(features, task="query")
        ids = features["input_ids"][0][features["attention_mask"][0].bool()].tolist()
        tokenizer = self._model.tokenizer
        written = [tokenizer.decode([number]) for number in ids]
        names = tokenizer.convert_ids_to_tokens(ids)
        # Parts of a character and blanks read better by the tokenizer's own name.
        return tuple(
            word.strip() if word.strip() and "\ufffd" not in word else name for word, name in zip(written, names)
        )

    def _queries(self, texts: list[str]) -> list[Tensor]:
        if not texts:
            return []
        found: list[Tensor] = self._model.encode_query(
            texts, batch_size=len(texts), prompt=self._query_prompt(), show_progress_bar=False
        )
        return [normalize(vectors.float(), dim=-1) for vectors in found]

    def _query_prompt(self) -> str | None:
        """Return the instruction; the library takes that of the model's files where `encode_query` is given none."""
        own = self._model.prompts.get("query")
        return own if self._config.query_prompt is None else self._config.query_prompt

    def _means(self, found: Sequence[Tensor]) -> Tensor:
        rows = [vectors.mean(0, keepdim=True) for vectors in found]
        return normalize(torch.cat([torch.empty(0, self.dim).to(self._device), *rows]), dim=-1)
