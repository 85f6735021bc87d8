"""POST /search and /explain answer what the searcher answers, and refuse in one sentence what they cannot."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from heritage_align.config import load_config
from heritage_align.pipeline import Pipeline, build_dataset
from heritage_align.search import Detail, Searcher, calibrate, everyday_texts, write_calibration
from heritage_align.service.app import create_app
from heritage_align.service.served import Catalogue, Source, same_models
from heritage_align.types import Hit, TextItem

TEXTS = ["大红地边框纹锦，绣两个黑色绳结、一朵金色菊花", "blue pine trees, purple daisy", "白鹤"]


def as_sent(hits: list[Hit]) -> list[dict[str, Any]]:
    return [{key: value for key, value in hit.asdict().items() if key != "corpus_id"} for hit in hits]


def refused(client: TestClient, body: dict[str, Any], status: int = 422, page: str = "/search") -> str:
    answer = client.post(page, json=body)
    assert answer.status_code == status, answer.text
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    message: str = answer.json()["message"]
    assert "Traceback" not in answer.text
    return message


@pytest.mark.parametrize("recipe", ["late-interaction", "global"])
@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_answered_as_by_the_searcher(
    client: TestClient, searchers: dict[str, Searcher], recipe: str, text: str
) -> None:
    answer = client.post("/search", json={"text": text, "recipe": recipe})
    assert answer.status_code == 200
    [hits] = searchers[recipe].hits([TextItem("q", text)])
    assert answer.json()["hits"] == as_sent(hits)
    assert len(hits) == 5
    assert answer.json()["recipe"] == recipe


def test_k_candidates_and_phrases_are_taken(client: TestClient, searchers: dict[str, Searcher]) -> None:
    text, phrases = "a crane above a lotus", ["crane", "lotus", "above"]
    answer = client.post("/search", json={"text": text, "phrases": phrases, "k": 3, "candidates": 4})
    item = TextItem("q", text, phrases=tuple(phrases))
    [hits] = searchers["late-interaction"].hits([item], top_k=3, candidates=4)
    assert answer.json()["hits"] == as_sent(hits)
    assert client.post("/search", json={"text": text, "k": 100}).json()["hits"][-1]["rank"] == 12


def test_the_first_recipe_is_the_default_and_the_store_is_named(client: TestClient) -> None:
    recipes = client.get("/recipes").json()["recipes"]
    assert [recipe["name"] for recipe in recipes] == ["late-interaction", "global"]
    assert [recipe["has_regions"] for recipe in recipes] == [True, False]
    assert [recipe["images"] for recipe in recipes] == [12, 12]
    answer = client.post("/search", json={"text": "crane"}).json()
    assert (answer["recipe"], answer["store"]) == ("late-interaction", recipes[0]["store"])


def test_details_of_given_and_of_stored_pictures(
    client: TestClient, searchers: dict[str, Searcher], sources: list[Source], base64_of: Callable[..., str]
) -> None:
    searcher, image_id = searchers["late-interaction"], searchers["late-interaction"].store.ids[4]
    image = build_dataset(sources[0].config).load_image(image_id)
    wanted = searcher.search_details([Detail(image, "d", (64, 32, 192, 128))], top_k=4)
    queries: list[dict[str, Any]] = [
        {"id": image_id, "boxes": [[0.25, 0.125, 0.75, 0.5]]},
        {"id": image_id, "boxes": [[64, 32, 192, 128]], "unit": "pixel"},
        {"data": base64_of(image), "boxes": [[0.25, 0.125, 0.75, 0.5]]},
        {"data": f"data:image/png;base64,{base64_of(image)}", "boxes": [[64, 32, 192, 128]], "unit": "pixel"},
    ]
    for picture in queries:
        answer = client.post("/search", json={"pictures": [picture], "k": 4})
        assert answer.status_code == 200, answer.text
        hits = answer.json()["hits"]
        assert [(hit["id"], hit["score"]) for hit in hits] == [(hit.id, hit.score) for hit in wanted]
        assert hits[0]["regions"][0]["box"] == list(wanted[0].regions[0][1])


def test_a_picture_and_a_text_together(
    client: TestClient, searchers: dict[str, Searcher], sources: list[Source], base64_of: Callable[..., str]
) -> None:
    searcher = searchers["late-interaction"]
    image = build_dataset(sources[0].config).load_image(searcher.store.ids[0])
    body = {"pictures": [{"data": base64_of(image)}], "text": "青色地", "weight": 0.75}
    wanted = searcher.search_details([Detail(image, "pictures.0")], text="青色地", weight=0.75)
    assert client.post("/search", json=body).json()["hits"] == as_sent(wanted)


def test_more_like_a_region_leaves_its_picture_out(client: TestClient, searchers: dict[str, Searcher]) -> None:
    image_id = searchers["late-interaction"].store.ids[3]
    hits = client.post("/search", json={"pictures": [{"id": image_id, "region": 5}], "k": 12}).json()["hits"]
    wanted = searchers["late-interaction"].search_regions([(image_id, 5)], top_k=12)
    assert hits == as_sent(wanted)
    assert image_id not in [hit["id"] for hit in hits]


def test_more_like_a_region_of_the_only_pictures_finds_none(client: TestClient, searchers: dict[str, Searcher]) -> None:
    everything = [{"id": image_id, "region": 1} for image_id in searchers["late-interaction"].store.ids]
    found = [client.post("/search", json={"pictures": everything[:8], "k": 20}).json()["hits"]]
    assert len(found[0]) == 4
    assert searchers["late-interaction"].search_regions([(each["id"], 1) for each in everything]) == []


def test_whole_pictures_and_a_recipe_without_regions(client: TestClient, searchers: dict[str, Searcher]) -> None:
    image_id = searchers["global"].store.ids[7]
    whole = client.post("/search", json={"pictures": [{"id": image_id}], "whole": True}).json()
    assert whole["hits"][0]["id"] == image_id
    assert whole["notes"] == []
    fallen_back = client.post("/search", json={"pictures": [{"id": image_id}], "recipe": "global"}).json()
    assert fallen_back["hits"][0]["id"] == image_id
    assert "whole pictures are compared" in fallen_back["notes"][0]


def test_what_the_encoder_does_not_read_is_said_of_that_query_alone(client: TestClient) -> None:
    answer = client.post("/search", json={"text": "白鹤，" * 60})
    assert "longer than" in answer.json()["notes"][0]
    assert client.post("/search", json={"text": "白鹤"}).json()["notes"] == []


def test_recipes_of_the_same_encoders_have_them_once(catalogue: Catalogue, sources: list[Source]) -> None:
    one, other = (served.pipeline for served in catalogue.values())
    assert one.encoder is other.encoder
    assert one.text_encoder is other.text_encoder
    assert one.similarity is not other.similarity
    document = sources[0].config.as_dict()
    for more in ("encoder.context_length=20", "runtime.seed=5", "text_encoder={name: cn_clip}"):
        assert not same_models(sources[0].config, load_config(document, [more])), more


def test_min_relevance(sources: list[Source], tmp_path: Path, client: TestClient) -> None:
    store = shutil.copytree(sources[0].store, tmp_path / "store")
    pipeline = Pipeline(sources[0].config)
    with Searcher.open(pipeline, store) as searcher:
        write_calibration(pipeline, searcher.store, calibrate(searcher, everyday_texts()[:60], "everyday"))
    with TestClient(create_app(Catalogue([Source(sources[0].config, store)]))) as calibrated:
        assert calibrated.get("/recipes").json()["recipes"][0]["calibrated"] is True
        answer = calibrated.post("/search", json={"text": "明天会下雨吗", "min_relevance": 0.999999}).json()
        assert answer["hits"] == []
        assert answer["nothing_fits"]["best"]["relevance"] < 0.999999
        kept = calibrated.post("/search", json={"text": "明天会下雨吗", "min_relevance": 0.0}).json()
        assert kept["hits"][0] == answer["nothing_fits"]["best"]
        assert "calibrated for" in refused(calibrated, {"text": "a", "min_relevance": 0.5, "candidates": 9})
    message = refused(client, {"text": "a", "min_relevance": 0.5})
    assert "holds no calibration" in message
    assert str(sources[0].store) not in message


def test_explain_says_which_region_answers_which_phrase(client: TestClient, searchers: dict[str, Searcher]) -> None:
    text = "blue pine trees, purple daisy"
    [hits] = searchers["late-interaction"].hits([TextItem("q", text)])
    found = client.post("/explain", json={"id": hits[0].id, "text": text}).json()
    assert found["score"] == pytest.approx(hits[0].score, abs=1e-6)
    assert (found["width"], found["height"], len(found["regions"])) == (256, 256, 14)
    answered = [(p["phrase"], found["regions"][p["region"]]["box"], p["score"]) for p in found["phrases"]]
    for (phrase, box, score), (name, wanted, value) in zip(answered, hits[0].regions, strict=True):
        assert (phrase, box) == (name, pytest.approx(wanted, abs=1e-5))
        assert score == pytest.approx(value, abs=1e-6)
    for phrase in found["phrases"]:
        assert len(phrase["scores"]) == 14
        assert max(phrase["scores"]) == phrase["score"]
    region = found["regions"][3]
    assert region["pixels"] == pytest.approx([value * 256 for value in region["box"]], abs=0.01)


def test_explain_refuses_what_has_no_regions_or_is_not_there(client: TestClient, sources: list[Source]) -> None:
    image_id = build_dataset(sources[0].config).image_ids[0]
    said = refused(client, {"id": image_id, "text": "crane", "recipe": "global"}, page="/explain")
    assert "whole pictures" in said
    assert "no picture 'nowhere'" in refused(client, {"id": "nowhere", "text": "crane"}, 404, "/explain")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "give a text, or pictures"),
        ({"text": "  "}, "is blank"),
        ({"text": ""}, "text"),
        ({"text": 5}, "text"),
        ({"text": "crane", "k": 0}, "k"),
        ({"text": "crane", "k": "5"}, "k"),
        ({"text": "crane", "k": 1001}, "k: 1001 is more than the limit of 1000"),
        ({"text": "crane", "candidates": 10_001}, "candidates: 10001 is more than the limit of 10000"),
        ({"text": "crane", "weigth": 0.5}, "weigth"),
        ({"text": "crane" * 401}, "characters of text: 2005 is more"),
        ({"text": "crane", "phrases": ["a"] * 65}, "phrases: 65 is more"),
        ({"text": "crane", "phrases": [" "]}, "is blank"),
        ({"text": "\u200b\ufeff"}, "is blank"),  # of which no encoder has anything to read
        ({"text": "crane", "phrases": ["\u00ad"]}, "is blank"),
        ({"phrases": ["a"], "pictures": [{"id": "x"}]}, "phrases are of a text"),
        ({"text": "crane", "whole": True}, "whole compares pictures"),
        ({"text": "crane", "min_relevance": 1.5}, "min_relevance"),
        ({"text": "crane", "min_relevance": 1}, "less than 1"),
        ({"pictures": [{"id": "x"}], "min_relevance": 0.5}, "no calibration"),
        ({"pictures": [{"id": "x", "region": 1}], "text": "crane"}, "a query alone"),
        ({"pictures": [{"id": "x", "region": 1, "boxes": [[0, 0, 1, 1]]}]}, "not both"),
        ({"pictures": [{"id": "x", "boxes": [[0, 0, 1]]}]}, "boxes"),
        ({"pictures": [{"data": "AAAA", "boxes": [[0, 0, 1, 1]] * 9}]}, "pictures: 9 is more than the limit of 8"),
        ({"pictures": [{"data": "§§§"}]}, "is not base64"),
        ({"pictures": [{"data": "AAA=A"}]}, "is not base64"),
        ({"pictures": [{"data": "data:image/png,plain"}]}, "data URI in base64"),
        ({"pictures": [{"data": "QUJD"}]}, "not a picture"),
        ({"pictures": [{"path": "/etc/passwd"}]}, "pictures.0.given"),
    ],
)
def test_what_is_refused(client: TestClient, body: dict[str, Any], said: str) -> None:
    assert said in refused(client, body)


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 422),
        (b"{", 400),
        (b"[]", 422),
        (b'{"text": "crane", "weight": NaN}', 422),
        (b'{"text": "crane", "pictures": [{"id": "x", "boxes": [[0, 0, 1, Infinity]]}]}', 422),
        (b'{"text": "\\ud800"}', 422),
        (b'{"text": "a", "k": 1e999}', 422),
        (b'{"text": "a", "k": ' + b"9" * 5000 + b"}", 400),
        (b"\xff\xfe", 400),
        (b"[" * 100_000, 400),
        (b'{"text": "a", "text": "crane"}', 200),
    ],
)
def test_bodies_that_are_no_request(client: TestClient, content: bytes, status: int) -> None:
    answer = client.post("/search", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == status, answer.text
    assert status == 200 or answer.json()["message"]


def test_boxes_outside_and_unknown_pictures(client: TestClient, searchers: dict[str, Searcher]) -> None:
    image_id = searchers["global"].store.ids[0]
    assert "no area" in refused(client, {"pictures": [{"id": image_id, "boxes": [[1, 1, 2, 2]]}]})
    assert "no area" in refused(client, {"pictures": [{"id": image_id, "boxes": [[0.5, 0.5, 0.5, 0.9]]}]})
    for unknown in ("../../etc/passwd", "/etc/passwd", "nowhere", "\u0000", "白鹤"):
        assert "holds no picture" in refused(client, {"pictures": [{"id": unknown}]}, 404)
        assert "holds no picture" in refused(client, {"pictures": [{"id": unknown, "region": 0}]}, 404)
    assert "none of its 14 regions" in refused(client, {"pictures": [{"id": image_id, "region": 14}]})
    assert "there is no recipe 'x' here" in refused(client, {"text": "crane", "recipe": "x"}, 404)
    two = [{"id": image_id}, {"id": image_id}]
    assert "compares one picture" in refused(client, {"pictures": two, "whole": True})
    assert "has no regions" in refused(client, {"pictures": two, "recipe": "global"})
    assert "has no regions" in refused(client, {"pictures": [{"id": image_id, "region": 1}], "recipe": "global"})
