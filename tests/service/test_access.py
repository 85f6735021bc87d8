"""The token, request ids, logs without queries, CORS, metrics, health, and OpenAPI that says what happens."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
from starlette.testclient import TestClient

from heritage_align.errors import ConfigError
from heritage_align.service.logs import LOGGER, JsonLines
from heritage_align.service.settings import TOKEN_VARIABLE, read_settings

SECRET = "s3cret-Token"


@pytest.fixture
def log() -> Iterator[list[dict[str, Any]]]:
    """The lines of the service's log, as JSON."""
    lines: list[dict[str, Any]] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(json.loads(JsonLines().format(record)))

    logger, handler = logging.getLogger(LOGGER), Keep()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield lines
    logger.removeHandler(handler)
    logger.setLevel(level)


def test_a_token_is_asked_for(limited: Callable[..., TestClient]) -> None:
    client = limited(token=SECRET)
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": SECRET}, {"authorization": "Bearer"}):
        for answer in (
            client.post("/search", json={"text": "crane"}, headers=headers),
            client.post("/v2/rerank", json={}, headers=headers),
            client.get("/items/test-00000-0/picture", headers=headers),
            client.get("/recipes", headers=headers),
            client.get("/metrics", headers=headers),
        ):
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            assert SECRET not in answer.text
        assert client.get("/health", headers=headers).json() == {"status": "ok"}
    right = {"authorization": f"Bearer {SECRET}"}
    assert client.post("/search", json={"text": "crane"}, headers=right).status_code == 200
    assert client.get("/recipes", headers={"authorization": f"bearer {SECRET}"}).status_code == 200
    assert "recipes" in client.get("/health", headers=right).json()


def test_a_token_that_is_no_ascii_is_wrong_and_no_fault(limited: Callable[..., TestClient]) -> None:
    answer = limited(token=SECRET).get("/recipes", headers={"authorization": "Bearer 秘密".encode()})
    assert answer.status_code == 401


def test_where_the_token_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    assert read_settings(None).token is None
    monkeypatch.setenv(TOKEN_VARIABLE, SECRET)
    token = read_settings(None).token
    assert token is not None
    assert token.get_secret_value() == SECRET
    assert SECRET not in repr(read_settings(None))
    (tmp_path / "token").write_text("other\n")
    other = read_settings(None, tmp_path / "token").token
    assert other is not None
    assert other.get_secret_value() == "other"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("waiting: 0", "waiting"),
        ("wating: 5", "wating"),
        ("- 1", "expected a mapping"),
        ("token: ''", "token"),
        ("token: two words", "token"),
        ("batch_window: 1", "batch_window"),
        (b"\xff", "not UTF-8"),
        ("a: [", "settings.yaml"),
        (None, "cannot be read"),
    ],
)
def test_settings_that_are_refused(content: Any, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    file = tmp_path / "settings.yaml"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError, match=said):
        read_settings(file)


def test_a_request_keeps_its_id_and_a_bad_one_gets_another(client: TestClient) -> None:
    def given(value: str) -> str:
        answer = client.get("/recipes", headers={"x-request-id": value})
        returned: str = answer.headers["x-request-id"]
        return returned

    assert given("abc-1.2_Z") == "abc-1.2_Z"
    for bad in ("a b", "x" * 65, "{}", ""):
        assert given(bad) not in ("", bad)
    assert given("") != given("")


def test_the_log_has_a_line_for_each_request_and_no_query(client: TestClient, log: list[dict[str, Any]]) -> None:
    client.post("/search", json={"text": "白鹤 secret"}, headers={"x-request-id": "one"})
    client.post("/search", json={"text": "secret", "recipe": "secretive"}, headers={"x-request-id": "two"})
    client.post("/rerank", json={"query": "白鹤 secret", "documents": ["text of a secret"]})
    client.get("/secret/page")
    lines = [line for line in log if line["event"] == "request"]
    assert [(line["request_id"], line["status"]) for line in lines[:2]] == [("one", 200), ("two", 404)]
    assert [(line["path"], line["status"]) for line in lines[2:]] == [("/rerank", 422), ("other", 404)]
    assert lines[0]["recipe"] == "late-interaction"
    assert all(line["ms"] > 0 for line in lines)
    assert "白鹤" not in str(lines)


def test_queries_are_logged_where_the_settings_say_so(
    limited: Callable[..., TestClient], log: list[dict[str, Any]]
) -> None:
    limited(log_queries=True).post("/search", json={"text": "白鹤"})
    assert [line.get("query") for line in log if line["event"] == "request"] == ["白鹤"]


def test_pages_of_other_origins_may_not_ask_unless_allowed(
    client: TestClient, limited: Callable[..., TestClient]
) -> None:
    ask = {"origin": "https://museum.example", "access-control-request-method": "POST"}
    assert "access-control-allow-origin" not in client.options("/search", headers=ask).headers
    plain = client.get("/recipes", headers={"origin": "https://museum.example"})
    assert "access-control-allow-origin" not in plain.headers
    allowed = limited(cors_origins=("https://museum.example",), token=SECRET)
    answer = allowed.options("/search", headers=ask)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "https://museum.example"
    other = allowed.options("/search", headers={**ask, "origin": "https://other.example"})
    assert "access-control-allow-origin" not in other.headers


def test_metrics_count(http: httpx.Client) -> None:
    def count(name: str) -> float:
        lines = http.get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))

    name = 'heritage_align_requests_total{method="POST",path="/search",status="200"}'
    before, calls = count(name), count("heritage_align_call_questions_count")
    for _ in range(3):
        http.post("/search", json={"text": "crane"})
    assert count(name) == before + 3
    assert count("heritage_align_call_questions_count") == calls + 3
    assert count("heritage_align_store_images{") == 24
    http.get("/no/such/page")
    assert count('heritage_align_requests_total{method="other",path="other",status="404"}') >= 1
    assert "/no/such" not in http.get("/metrics").text  # what clients invent makes no series


def test_health_names_versions_weights_and_stores(http: httpx.Client) -> None:
    health = http.get("/health").json()
    assert health["status"] == "ok"
    assert {"heritage-align", "torch"} <= set(health["versions"])
    assert all("sha256:" in recipe["encoder"] for recipe in health["recipes"])


@pytest.mark.parametrize(
    ("method", "page", "status"), [("GET", "/search", 405), ("PUT", "/items/x", 405), ("GET", "/docs", 404)]
)
def test_other_methods_and_pages(client: TestClient, method: str, page: str, status: int) -> None:
    answer = client.request(method, page)
    assert answer.status_code == status
    assert set(answer.json()) == {"message", "request_id"}


def test_openapi_describes_problems_as_they_are(client: TestClient, http: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    assert document == http.get("/openapi.json").json()
    schema = {"$ref": "#/components/schemas/Problem", "components": document["components"]}
    problem = client.post("/search", json={"texts": "crane"})
    jsonschema.validate(problem.json(), schema)
    for path, methods in document["paths"].items():
        for operation in methods.values():
            described = {**operation["responses"]}
            assert described.pop("200")["description"], path
            assert all("content" in answer and answer["description"] for answer in described.values()), path
            assert "HTTPValidationError" not in json.dumps(operation), path
