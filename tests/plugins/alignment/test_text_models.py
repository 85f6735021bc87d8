"""Tokens, TF-IDF and the text models, by hand and against torch's packed sequences."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from heritage_align_plugins.alignment.text.bag import BagOfWords
from heritage_align_plugins.alignment.text.frozen import FrozenText
from heritage_align_plugins.alignment.text.gru import BidirectionalGru
from heritage_align_plugins.alignment.text.tokens import UNKNOWN, Vocabulary, n_grams, tokenise
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.utils.rnn import pack_sequence, pad_packed_sequence

TEXTS = ["red lotus", "red red crane", "blue lotus"]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Blue-white 青花 bowl", ["blue-white", "青", "花", "bowl"]),
        ("Qing's 17th-c. vase, (no. 3)!", ["qing's", "17th-c", "vase", "no", "3"]),
        ("蓝地缠枝莲纹", ["蓝", "地", "缠", "枝", "莲", "纹"]),
        ("ひらがなカ", ["ひ", "ら", "が", "な", "カ"]),
        ("Ünïcode_word", ["ünïcode", "word"]),
        ("!?… 🐉", []),
        ("", []),
    ],
)
def test_tokens(text: str, tokens: list[str]) -> None:
    assert tokenise(text) == tokens


@given(st.text())
def test_no_token_holds_a_space_or_a_capital(text: str) -> None:
    for token in tokenise(text):
        assert token.split() == [token]
        assert token == token.lower()


def test_neighbours() -> None:
    assert n_grams(["red", "red", "crane"]) == ["red", "red", "crane", "red red", "red crane"]
    assert n_grams([]) == []


def test_a_vocabulary_by_hand() -> None:
    known = Vocabulary.of(TEXTS, min_count=1, min_pairs=1)
    singles, pairs = ["blue", "crane", "lotus", "red"], ["blue lotus", "red crane", "red lotus", "red red"]
    assert list(known.tokens) == [*singles, *pairs]
    assert list(known.tokens.values()) == list(range(1, 9))
    assert known.singles == 5
    assert len(known) == 9
    rare, shared = math.log(4 / 2) + 1, math.log(4 / 3) + 1  # in one and in two of the three texts
    assert known.idf == pytest.approx((0, rare, rare, shared, shared, rare, rare, rare, rare))
    assert known.sequence("a red crane") == [UNKNOWN, 4, 2]
    assert known.sequence("?!") == [UNKNOWN]
    assert Vocabulary.from_dict(known.asdict()) == known
    assert list(Vocabulary.of(TEXTS, min_count=2, min_pairs=2).tokens) == ["lotus", "red"]


def test_tf_idf_by_hand() -> None:
    known = Vocabulary.of(TEXTS, min_count=1, min_pairs=10)
    rows, weights = known.weighted("red red red crane, and a dragon")
    assert rows == [2, 4]
    crane, red = math.log(2) + 1, (1 + math.log(3)) * (math.log(4 / 3) + 1)
    length = math.hypot(crane, red)
    assert weights == pytest.approx([crane / length, red / length])
    assert known.weighted("a dragon") == ([UNKNOWN], [0.0])


def test_a_bag_by_hand() -> None:
    known = Vocabulary.of(TEXTS, min_count=1, min_pairs=10)
    bag = BagOfWords(known, 2)
    with torch.no_grad():
        bag.embedding.weight.copy_(torch.tensor([[9.0, 9], [0, 0], [3, 0], [0, 2], [1, 1]]))
        bag.bias.copy_(torch.tensor([10.0, 20]))
    found = bag(["crane", "red crane", "a dragon"])
    crane, red = math.log(2) + 1, math.log(4 / 3) + 1
    length = math.hypot(crane, red)
    expected = [[13, 20], [10 + (3 * crane + red) / length, 20 + red / length], [10, 20]]
    torch.testing.assert_close(found, torch.tensor(expected))
    assert bag([]).shape == (0, 2)


def test_dropout_of_a_bag_leaves_tokens_out_in_training_alone() -> None:
    known = Vocabulary.of(TEXTS)
    bag = BagOfWords(known, 4, dropout=0.5)
    torch.manual_seed(0)
    assert not torch.equal(bag(TEXTS), bag(TEXTS))
    bag.eval()
    assert torch.equal(bag(TEXTS), bag(TEXTS))


def gru(dropout: float = 0.0, unknown: float = 0.0) -> BidirectionalGru:
    torch.manual_seed(1)
    return BidirectionalGru(Vocabulary.of([*TEXTS, "莲 鹤"]), 6, 5, dropout, unknown)


def by_packing(model: BidirectionalGru, texts: Sequence[str]) -> Tensor:
    """Mean of tokens' states, these the means of both directions, as SCAN's code packs a batch."""
    sequences = [torch.tensor(model.vocabulary.sequence(text)) for text in texts]
    packed = pack_sequence([model.embedding(rows) for rows in sequences], enforce_sorted=False)
    padded, lengths = pad_packed_sequence(model.gru(packed)[0], batch_first=True)
    states = (padded[..., :6] + padded[..., 6:]) / 2
    return torch.stack([row[:length].mean(0) for row, length in zip(states, lengths.tolist())])


def test_the_gru_is_that_of_packed_sequences() -> None:
    model = gru()
    texts = ["red lotus", "crane", "blue lotus red lotus crane", "莲鹤", "a dragon", "red", "?"]
    found, expected = model(texts), by_packing(model, texts)
    torch.testing.assert_close(found, expected)
    for one, other in zip(
        torch.autograd.grad(found.square().sum(), list(model.parameters())),
        torch.autograd.grad(expected.square().sum(), list(model.parameters())),
    ):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    assert model([]).shape == (0, 6)


def test_a_gru_step_by_hand() -> None:
    """One token from a zero state: h = (1 - z) n, n = tanh(W_n x + b + r b_h) (Cho et al. 2014).

    torch's gates come in the order r, z, n.
    """
    model = gru()
    x = model.embedding.weight[model.vocabulary.tokens["crane"]]
    states = []
    for end in ("", "_reverse"):
        weight, bias = getattr(model.gru, f"weight_ih_l0{end}"), getattr(model.gru, f"bias_ih_l0{end}")
        recurrent = getattr(model.gru, f"bias_hh_l0{end}")
        r, z, n = (weight @ x + bias).chunk(3)
        r_hidden, z_hidden, n_hidden = recurrent.chunk(3)
        gate = torch.sigmoid(z + z_hidden)
        states.append((1 - gate) * torch.tanh(n + torch.sigmoid(r + r_hidden) * n_hidden))
    torch.testing.assert_close(model(["crane"])[0], (states[0] + states[1]) / 2)


def test_tokens_become_unknown_in_training_alone() -> None:
    model = gru(unknown=0.5)
    torch.manual_seed(0)
    draws = {tuple(model(["red"])[0].tolist()) for _ in range(20)}
    assert draws == {tuple(gru()(["red"])[0].tolist()), tuple(gru()(["dragon"])[0].tolist())}
    model.eval()
    assert torch.equal(model(["red"]), gru()(["red"]))


class Known:
    """A pretrained text encoder of two dimensions that counts what it is asked."""

    dim = 2

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        self.asked += texts
        return torch.tensor([[float(len(text)), -2.0] for text in texts])


@pytest.mark.parametrize("relu", [True, False])
def test_the_rectified_projection_by_hand(relu: bool) -> None:
    """Sheng et al. 2021, eq. 3, of the vectors (1, -2) and (3, -2)."""
    base = Known()
    model = FrozenText(base, 2, relu)  # type: ignore[arg-type]
    with torch.no_grad():
        model.projection.weight.copy_(torch.tensor([[1.0, 1], [0, -1]]))
        model.projection.bias.copy_(torch.tensor([0.0, 0.5]))
    expected = torch.tensor([[0.0 if relu else -1.0, 2.5], [1, 2.5], [0.0 if relu else -1.0, 2.5]])
    torch.testing.assert_close(model(["鹤", "red", "鹤"]), expected)
    assert base.asked == ["鹤", "red"]
    assert model(["鹤"]).requires_grad
    assert base.asked == ["鹤", "red"], "a text's vector is kept"
    assert model([]).shape == (0, 2)
    assert {name for name, _ in model.named_parameters()} == {"projection.weight", "projection.bias"}
