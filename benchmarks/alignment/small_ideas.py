"""What makes attention gain over one linear map on a small collection: every idea alone, by cross-validation.

    python benchmarks/alignment/small_ideas.py --data pairs.jsonl --features region_features.safetensors --texts zh en

Only rows of split train are read, in folds by picture; what wins here goes into recipe scan-gb-small, which
`split_table.py` measures on the test rows. The number is mean recall in percent (R@1, 5, 10, both directions) over the
folds. Closed forms take seconds; what is trained takes most of the time (`--only closed` leaves it out).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from heritage_align_plugins.alignment.cca import fit_cca
from heritage_align_plugins.alignment.pair_memory import PairMemory
from heritage_align_plugins.alignment.settings import PairMemorySettings
from heritage_align_plugins.alignment.text.tokens import Vocabulary
from heritage_align_plugins.alignment.warm_start import bags, regression
from heritage_align_plugins.alignment.whole import WholeProjection, pool_regions
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, dropout, kl_div, normalize

from heritage_align.bench.machine import commit, machine_facts
from heritage_align.data.region_features import read_region_features
from heritage_align.evaluation.ranks import ranks_from_scores
from heritage_align.ops import Ragged

DIM, RIDGE_IMAGE, RIDGE_TEXT, POWER, RIDGE_REGIONS = 128, 0.3, 2.0, 2.0, 0.3
LAMBDA = 9.0
KS = (1, 5, 10)


class View:
    """A CCA's unit vectors: of test pictures and texts, of training pictures, documents and captions."""

    def __init__(self, fold: Fold, x: Tensor, x_test: Tensor) -> None:
        self.fit = fit_cca(x, fold.documents, DIM, RIDGE_IMAGE, RIDGE_TEXT)
        self.scale = self.fit.correlations**POWER
        self.pictures_test, self.pictures = self.picture(x_test), self.picture(x)
        self.texts_test, self.texts, self.whole_texts = (
            self.text(b) for b in (fold.bags_test, fold.bags, fold.documents)
        )

    def picture(self, x: Tensor) -> Tensor:
        return normalize((x - self.fit.x_mean) @ self.fit.a * self.scale, dim=-1)

    def text(self, rows: Tensor) -> Tensor:
        return normalize((rows - self.fit.y_mean) @ self.fit.b * self.scale, dim=-1)

    def score(self) -> Tensor:
        return self.pictures_test @ self.texts_test.T


class Fold:
    """Features and bags of one fold; regions ``(n, m, d)``, standardised by the training pictures."""

    def __init__(self, data: Collection, train: list[int], test: list[int], column: str, pieces: int) -> None:
        captions = [data.rows[i][column] for i in train]
        asked = [data.rows[i][column] for i in test]
        self.owners = torch.tensor([k for k, group in enumerate(captions) for _ in group])
        self.asked = torch.tensor([k for k, group in enumerate(asked) for _ in group])
        single = [text for group in captions for text in group]
        self.vocabulary = Vocabulary.of(single, 1, 2, pieces)
        self.bags = bags(self.vocabulary, single)
        self.documents = bags(self.vocabulary, ["\n".join(group) for group in captions])
        self.bags_test = bags(self.vocabulary, [text for group in asked for text in group])
        sizes = data.regions.lengths
        assert bool((sizes == sizes[0]).all()), "as many regions in every picture"
        m, d = int(sizes[0]), data.regions.dim
        whole, regions, boxes = data.whole, data.regions.values.view(-1, m, d), data.boxes.view(-1, m, 4)
        model = WholeProjection(d, 1)

        def pooled(rows: list[int]) -> tuple[Tensor, Ragged, Tensor]:
            starts = torch.arange(len(rows) + 1) * m
            return whole[rows], Ragged(regions[rows].flatten(0, 1), starts), boxes[rows].flatten(0, 1)

        model.fit_scale(*pooled(train))
        self.x, self.x_test = model.standardised(*pooled(train)), model.standardised(*pooled(test))
        self.r, self.r_test = ((regions[rows] - model.mean[d:]) / model.deviation[d:] for rows in (train, test))
        sides = boxes[..., 2:] - boxes[..., :2]
        area = sides.prod(-1).clamp_min(1e-6)
        self.area, self.area_test = ((area / area.sum(1, keepdim=True))[rows] for rows in (train, test))
        self.mean = pool_regions(*pooled(train)[1:])
        self.mean = (self.mean - model.mean[d:]) / model.deviation[d:]
        self.d = d
        self.view = View(self, self.x, self.x_test)

    def own(self) -> View:
        """The whole picture's own feature alone."""
        return View(self, self.x[:, : self.d], self.x_test[:, : self.d])

    def regions_near_words(self, view: View) -> tuple[Tensor, Tensor]:
        """Regions of training and test pictures in the view's space, by ridge regression."""
        target = (self.documents - view.fit.y_mean) @ view.fit.b * view.scale
        weights, offset = regression(self.mean, target, RIDGE_REGIONS)
        first, second = (normalize(rows @ weights + offset, dim=-1) for rows in (self.r, self.r_test))
        return first, second

    def recall(self, scores: Tensor) -> float:
        answers = self.asked.tolist()
        texts = [str(i) for i in range(len(answers))]
        t2i = ranks_from_scores(scores.T, [[i] for i in answers], texts)
        by_picture: list[list[int]] = [[] for _ in range(len(scores))]
        for text, picture in enumerate(answers):
            by_picture[picture].append(text)
        i2t = ranks_from_scores(scores, by_picture, [str(i) for i in range(len(scores))])
        return float(sum(r.hits(k).mean() for r in (t2i, i2t) for k in KS) / 6 * 100)


class Collection:
    """Rows of split train and their features."""

    def __init__(self, table: Path, features: Path) -> None:
        rows = [json.loads(line) for line in table.read_text(encoding="utf-8").splitlines()]
        self.rows = [row for row in rows if row.get("split", "train") == "train"]
        found = read_region_features(features)
        place = {name: row for row, name in enumerate(found.ids)}
        order = torch.tensor([place[row["image"]] for row in self.rows])
        chosen = Ragged(torch.tensor(found.values).float(), torch.tensor(found.offsets))
        self.regions = chosen.select(order)
        self.boxes = torch.tensor(found.boxes).float()[chosen.rows_of(order)]
        assert found.global_features is not None
        self.whole = torch.tensor(found.global_features).float()[order]


def attend(regions: Tensor, texts: Tensor, prior: Tensor | None = None) -> Tensor:
    """SCAN's text-to-image score of one phrase a text, ``(n, n_texts)``; `prior` are logs of the regions' areas."""
    cosines = torch.einsum("nrd,td->nrt", regions, texts)
    logits = LAMBDA * cosines.clamp_min(0)
    weights = (logits if prior is None else logits + prior.unsqueeze(-1)).softmax(1)
    gram = torch.einsum("nrd,nsd->nrs", regions, regions)
    lengths = torch.einsum("nrt,nrs,nst->nt", weights, gram, weights).clamp_min(1e-6).sqrt()
    return (weights * cosines).sum(1) / lengths


def even(scores: Tensor) -> Tensor:
    return (scores - scores.mean()) / scores.std()


def with_more(fold: Fold, more: Callable[[Tensor], Tensor]) -> float:
    """A CCA with further features of the regions."""
    extra, extra_test = more(fold.r), more(fold.r_test)
    mean, deviation = extra.mean(0), extra.std(0).clamp_min(1e-6)
    x, x_test = (torch.cat([a, (b - mean) / deviation], 1) for a, b in ((fold.x, extra), (fold.x_test, extra_test)))
    return fold.recall(View(fold, x, x_test).score())


def random_features(fold: Fold) -> Callable[[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(0)
    sample = fold.r.flatten(0, 1)[:500]
    weights = torch.randn(fold.d, 1000, generator=generator) / torch.cdist(sample, sample).median()
    shift = torch.rand(1000, generator=generator) * 2 * torch.pi
    return lambda r: (r @ weights + shift).cos().mean(1)


def memory(fold: Fold, *, hubness: float = 1.0, regions: float = 0.0, own_view: float = 0.0) -> float:
    """The parts of `pair_memory`, by the product's own module."""
    views = [fold.view, *([fold.own()] if own_view else [])]
    shares = [1.0, own_view][: len(views)]

    def joined(name: str) -> Tensor:
        parts = [share**0.5 * getattr(view, name) for share, view in zip(shares, views)]
        return torch.cat(parts, 1) / sum(shares) ** 0.5

    module = PairMemory(PairMemorySettings(hubness=hubness), DIM * len(views))
    module.fit(joined("pictures"), joined("whole_texts"), joined("texts"), fold.owners)
    scores = (
        module.finish(joined("pictures_test"), texts=False, whole=True)
        @ module.finish(joined("texts_test"), texts=True, whole=True).T
    )
    if regions:
        near = [share**0.5 * fold.regions_near_words(view)[1] for share, view in zip(shares, views)]
        rows = torch.cat(near, -1) / sum(shares) ** 0.5
        found = module.finish(rows.flatten(0, 1), texts=False, whole=False).unflatten(0, rows.shape[:2])
        scores = scores + regions * attend(found, module.finish(joined("texts_test"), texts=True, whole=False))
    return fold.recall(scores)


class Tuned(nn.Module):
    """Global and region-phrase score from the CCA, tuned by InfoNCE with dropout."""

    def __init__(self, fold: Fold) -> None:
        super().__init__()
        fit, scale = fold.view.fit, fold.view.scale
        target = (fold.documents - fit.y_mean) @ fit.b * scale
        self.near, self.offset = (nn.Parameter(part) for part in regression(fold.mean, target, RIDGE_REGIONS))
        self.a, self.a0 = nn.Parameter(fit.a * scale), nn.Parameter(-(fit.x_mean @ fit.a) * scale)
        self.b, self.b0 = nn.Parameter(fit.b * scale), nn.Parameter(-(fit.y_mean @ fit.b) * scale)

    def forward(self, x: Tensor, r: Tensor, words: Tensor) -> Tensor:
        x, r, words = (dropout(part, 0.5, self.training) for part in (x, r, words))
        pictures = normalize(x @ self.a + self.a0, dim=1)
        texts = normalize(words @ self.b + self.b0, dim=1)
        return pictures @ texts.T + 0.3 * attend(normalize(r @ self.near + self.offset, dim=-1), texts)


def tuned(
    fold: Fold, *, epochs: int = 6, rate: float = 1e-4, batch: int = 128, temperature: float = 0.2,
    smoothing: float = 0.0, distil: float = 0.0, hard: int = 0, regions_left_out: float = 0.0, mixing: float = 0.0,
) -> float:  # fmt: skip
    """Train, score the test pictures.

    Args:
        fold: the fold.
        epochs: of one step a caption of every picture.
        rate: Adam's, falling as a cosine.
        batch: pictures.
        temperature: of the softmax.
        smoothing: share of the target that goes to the pictures with the most alike documents.
        distil: weight of the divergence from the CCA's own softmax.
        hard: a batch is pictures with this many nearest others by the CCA each; 0: at random.
        regions_left_out: chance that a region is 0.
        mixing: share of the nearest other picture's words in a bag.
    """
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    model, view, n = Tuned(fold), fold.view, len(fold.x)
    starts = torch.cat([torch.zeros(1, dtype=torch.long), fold.owners.bincount().cumsum(0)])
    most = int(fold.owners.bincount().max())
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    steps = epochs * most * -(-n // batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    alike = normalize(fold.documents - fold.documents.mean(0), dim=1)
    alike = alike @ alike.T
    alike.fill_diagonal_(-1)
    model.train()
    for _ in range(epochs * most):
        drawn = torch.rand(n, generator=generator) * fold.owners.bincount()
        captions = starts[:-1] + drawn.long()
        for rows in torch.randperm(n, generator=generator).split(batch):
            if hard:
                near = (view.pictures[rows[: batch // (1 + hard)]] @ view.texts[captions].T).topk(1 + hard).indices
                rows = torch.unique(near)
            r = fold.r[rows]
            if regions_left_out:
                r = r * (torch.rand(*r.shape[:2], 1, generator=generator) >= regions_left_out)
            words = fold.bags[captions[rows]]
            if mixing:
                words = (1 - mixing) * words + mixing * fold.bags[captions[alike[rows].argmax(1)]]
            logits = model(fold.x[rows], r, words) / temperature
            target = torch.eye(len(rows))
            if smoothing:
                target = (1 - smoothing) * target + smoothing * (alike[rows][:, rows] / 0.1).softmax(1)
            loss = (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2
            if distil:
                known = view.pictures[rows] @ view.texts[captions[rows]].T / temperature
                for mine, theirs in ((logits, known), (logits.T, known.T)):
                    loss = loss + distil / 2 * kl_div(mine.log_softmax(1), theirs.softmax(1), reduction="batchmean")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        for _ in range(-(-n // batch)):
            schedule.step()
    model.eval()
    with torch.no_grad():
        return fold.recall(model(fold.x_test, fold.r_test, fold.bags_test))


def word_by_word(fold: Fold) -> Tensor:
    """Each word a direction of the CCA that looks for its best region; a text is the weighted mean of its words."""
    words = normalize(fold.view.fit.b * fold.view.scale, dim=1)
    best = torch.einsum("nrd,wd->nrw", fold.regions_near_words(fold.view)[1], words).max(1).values
    return best @ (fold.bags_test / fold.bags_test.sum(1, keepdim=True).clamp_min(1e-6)).T


def in_place_of_the_mean(fold: Fold) -> float:
    """The whole picture's map with attended regions where their mean by area stood; the areas are the prior."""
    view, d = fold.view, fold.d
    a, mean = view.fit.a * view.scale, view.fit.x_mean
    whole = ((fold.x_test[:, :d] - mean[:d]) @ a[:d]).unsqueeze(1)
    regions = normalize(whole + (fold.r_test - mean[d:]) @ a[d:], dim=-1)
    return fold.recall(attend(regions, view.texts_test, fold.area_test.log()))


def hubs(fold: Fold) -> float:
    """The correction alone: scores of training texts and pictures, without what is recalled."""
    view = fold.view
    scores = view.score()
    spread = (view.pictures @ view.texts.T).std()
    of_pictures = spread * (view.pictures_test @ view.texts.T / spread).logsumexp(1, keepdim=True)
    of_texts = spread * (view.texts_test @ view.pictures.T / spread).logsumexp(1)
    return fold.recall(scores - of_pictures - of_texts)


CLOSED: dict[str, Callable[[Fold], float]] = {
    "CCA (recipe cca)": lambda f: f.recall(f.view.score()),
    "regions alone, mean by area": lambda f: f.recall(
        normalize((f.regions_near_words(f.view)[1] * f.area_test.unsqueeze(-1)).sum(1), dim=1) @ f.view.texts_test.T
    ),
    "regions alone, attention of the caption": lambda f: f.recall(
        attend(f.regions_near_words(f.view)[1], f.view.texts_test)
    ),
    "CCA + attention of the caption to regions": lambda f: f.recall(
        even(f.view.score()) + 0.3 * even(attend(f.regions_near_words(f.view)[1], f.view.texts_test))
    ),
    "CCA + attention of each word (its own CCA direction)": lambda f: f.recall(
        even(f.view.score()) + 0.3 * even(word_by_word(f))
    ),
    "attention in place of the regions' mean": in_place_of_the_mean,
    "second order: deviation of regions": lambda f: with_more(f, lambda r: r.std(1)),
    "second order: largest of regions": lambda f: with_more(f, lambda r: r.max(1).values),
    "second order: random Fourier features of regions": lambda f: with_more(f, random_features(f)),
    "two views (pooled, own feature)": lambda f: f.recall(f.view.score() + 0.5 * f.own().score()),
    "correction for hubs": hubs,
    "memory of pairs": lambda f: memory(f, hubness=0.0),
    "memory, hubs": lambda f: memory(f),
    "memory, hubs, attention": lambda f: memory(f, regions=0.3),
    "memory, hubs, two views": lambda f: memory(f, own_view=0.5),
    "memory, hubs, two views, attention (scan-gb-small untuned)": lambda f: memory(f, regions=0.3, own_view=0.5),
}
TRAINED: dict[str, Callable[[Fold], float]] = {
    "CCA + attention, tuned with dropout": tuned,
    "tuned, temperature 0.1": lambda f: tuned(f, temperature=0.1),
    "tuned, batch of all pictures": lambda f: tuned(f, batch=len(f.x), rate=3e-4),
    "tuned on hard candidates of the CCA": lambda f: tuned(f, hard=3),
    "tuned, distilled from the CCA": lambda f: tuned(f, distil=1.0),
    "tuned, labels smoothed over like documents": lambda f: tuned(f, smoothing=0.2),
    "tuned, regions left out (0.3)": lambda f: tuned(f, regions_left_out=0.3),
    "tuned, words of the nearest picture mixed in (0.3)": lambda f: tuned(f, mixing=0.3),
}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("--texts", nargs="+", default=["text"], help="columns of lists of texts")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--only", choices=["closed", "trained"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    data = Collection(options.data, options.features)
    order = torch.randperm(len(data.rows), generator=torch.Generator().manual_seed(0))
    parts = [part.tolist() for part in order.chunk(options.folds)]
    ideas = {**(CLOSED if options.only != "trained" else {}), **(TRAINED if options.only != "closed" else {})}
    results: dict[str, dict[str, list[float]]] = {name: {} for name in ["CCA, whole words", *ideas]}
    for column in options.texts:
        for number, test in enumerate(parts):
            train = [row for other, part in enumerate(parts) if other != number for row in part]
            plain = Fold(data, train, test, column, 0)
            results["CCA, whole words"].setdefault(column, []).append(plain.recall(plain.view.score()))
            fold = Fold(data, train, test, column, 4)
            for name, idea in ideas.items():
                results[name].setdefault(column, []).append(idea(fold))
        for name, found in results.items():
            print(f"{column:4} {name:60} {sum(found[column]) / options.folds:.2f}", flush=True)
    document = {
        "settings": {"data": options.data.name, "texts": options.texts, "folds": options.folds},
        "commit": commit(),
        "machine": machine_facts(torch.device("cpu")),
        "measured": time.strftime("%Y-%m-%d"),
        "mean_recall": results,
        "goals": [],
    }
    options.out.write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
