"""POST /rerank serves Cohere's client and Jina's requests; what is no picture of ours is refused in one sentence."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import cohere
import httpx
import pytest
import torch
from cohere.core.api_error import ApiError
from starlette.testclient import TestClient

from heritage_align.pipeline import build_dataset
from heritage_align.search import Searcher
from heritage_align.service.served import Source
from heritage_align.types import Run, TextItem

QUERY = "大红地边框纹锦，绣两个黑色绳结、一朵金色菊花"


@pytest.fixture(scope="module")
def ids(searchers: dict[str, Searcher]) -> list[str]:
    return list(searchers["late-interaction"].store.ids)


def ranked(searcher: Searcher, ids: list[str], query: str = QUERY) -> list[tuple[int, float]]:
    run = searcher.rerank(Run(("q",), [ids], [[0.0] * len(ids)]), [TextItem("q", query)])
    return [(ids.index(hit.id), hit.score) for hit in run.hits("q")]


def refused(client: TestClient, body: dict[str, Any], status: int = 422) -> str:
    answer = client.post("/rerank", json=body)
    assert answer.status_code == status, answer.text
    message: str = answer.json()["message"]
    return message


def test_the_cohere_client_of_version_2(service: Any, ids: list[str], searchers: dict[str, Searcher]) -> None:
    client = cohere.ClientV2(api_key="unused", base_url=service.url)
    answer = client.rerank(model="late-interaction", query=QUERY, documents=ids, top_n=4)
    found = [(result.index, result.relevance_score) for result in answer.results]
    assert found == ranked(searchers["late-interaction"], ids)[:4]
    assert answer.id
    assert answer.meta is not None


def test_the_cohere_client_of_version_1(service: Any, ids: list[str], searchers: dict[str, Searcher]) -> None:
    client = cohere.Client(api_key="unused", base_url=service.url)
    answer = client.rerank(query=QUERY, documents=ids[:5], return_documents=True, model="global")
    assert [(r.index, r.relevance_score) for r in answer.results] == ranked(searchers["global"], ids[:5])


def test_the_cohere_client_is_told_why(service: Any) -> None:
    client = cohere.ClientV2(api_key="unused", base_url=service.url)
    with pytest.raises(ApiError) as error:
        client.rerank(model="late-interaction", query=QUERY, documents=["a text about cranes"])
    assert error.value.status_code == 422
    assert "the store holds no picture 'a text about cranes'" in str(error.value.body)


def test_jinas_request(http: httpx.Client, ids: list[str], searchers: dict[str, Searcher]) -> None:
    body = {
        "model": "late-interaction",
        "query": QUERY,
        "top_n": 3,
        "documents": [{"id": image_id} for image_id in ids],
        "return_documents": True,
        "truncation": True,
    }
    answer = http.post("/v1/rerank", json=body, headers={"Authorization": "Bearer jina_unused"}).json()
    wanted = ranked(searchers["late-interaction"], ids)[:3]
    assert [(r["index"], r["relevance_score"]) for r in answer["results"]] == wanted
    assert [r["document"] for r in answer["results"]] == [{"id": ids[place]} for place, _ in wanted]
    assert set(answer) >= {"model", "usage", "results"}


def test_given_pictures_score_as_those_of_the_store(
    client: TestClient, ids: list[str], sources: list[Source], searchers: dict[str, Searcher], base64_of: Any
) -> None:
    dataset = build_dataset(sources[0].config)
    given = [base64_of(dataset.load_image(image_id)) for image_id in ids[:3]]
    documents = [
        {"image": given[0]},
        f"data:image/png;base64,{given[1]}",
        {"image": f"data:image/png;base64,{given[2]}"},
    ]
    answer = client.post("/rerank", json={"query": QUERY, "documents": [*documents, ids[4]]})
    assert answer.status_code == 200, answer.text
    wanted = ranked(searchers["late-interaction"], [*ids[:3], ids[4]])
    found = [(result["index"], result["relevance_score"]) for result in answer.json()["results"]]
    assert [place for place, _ in found] == [place for place, _ in wanted]
    # A store rounds features to 16 bits.
    assert torch.allclose(torch.tensor([s for _, s in found]), torch.tensor([s for _, s in wanted]), atol=2e-3)


def test_ten_thousand_candidates_and_one_more(
    client: TestClient, ids: list[str], searchers: dict[str, Searcher]
) -> None:
    documents = random.Random(0).choices(ids, k=10_000)
    answer = client.post("/rerank", json={"query": QUERY, "documents": documents})
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert sorted(result["index"] for result in results) == list(range(10_000))
    scores = dict(ranked(searchers["late-interaction"], ids))
    for result in results[:20]:
        expected = scores[ids.index(documents[result["index"]])]
        assert result["relevance_score"] == pytest.approx(expected, abs=1e-6)
    said = refused(client, {"query": QUERY, "documents": [*documents, ids[0]]})
    assert said == "documents: 10001 is more than the limit of 10000"


@pytest.mark.parametrize(
    ("documents", "said"),
    [
        (["a crane"], "texts are not ranked here"),
        ([{"text": "a crane"}], "documents.0: is a text; this service ranks pictures"),
        ([{"id": "nowhere"}], "the store holds no picture 'nowhere'"),
        (["../../../etc/passwd"], "the store holds no picture"),
        (["file:///etc/passwd"], "the store holds no picture"),
        ([{"image": "file:///etc/passwd"}], "is not base64"),
        ([{"image": "/etc/passwd"}], "is not a picture"),
        ([{"image": "https://example.org/a.jpg"}], "fetches no pictures"),
        ([{"image": "data:image/png;base64,QUJD"}], "is not a picture"),
        ([{"image": "data:image/png;base64,AAAA"}], "begins with zeros alone: it was not written or downloaded"),
        (["data:image/png;base64,????"], "is not base64"),
        ([{"image": "QUJD"}] * 9, "not a picture"),
        ([{}], "expected the id of a picture"),
        ([5], "expected the id of a picture"),
        ([], "documents"),
        (None, "documents"),
    ],
)
def test_documents_that_are_refused(client: TestClient, documents: Any, said: str) -> None:
    assert said in refused(client, {"query": QUERY, "documents": documents})


def test_more_pictures_than_the_limit(
    limited: Callable[..., TestClient], base64_of: Any, sources: list[Source]
) -> None:
    dataset = build_dataset(sources[0].config)
    image = base64_of(dataset.load_image(dataset.image_ids[0]))
    said = refused(limited(pictures=2), {"query": QUERY, "documents": [{"image": image}] * 3})
    assert said == "documents that are images: 3 is more than the limit of 2"


def test_other_faults(client: TestClient, ids: list[str]) -> None:
    assert "there is no recipe 'rerank-v3.5' here; there are late-interaction, global" in refused(
        client, {"query": QUERY, "documents": ids, "model": "rerank-v3.5"}, 404
    )
    assert "top_n" in refused(client, {"query": QUERY, "documents": ids, "top_n": 0})
    assert "is blank" in refused(client, {"query": " ", "documents": ids})
    assert "characters of query" in refused(client, {"query": "a" * 2001, "documents": ids})
