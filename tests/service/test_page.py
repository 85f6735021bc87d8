"""The page's files: they load nothing from elsewhere, say the same in both languages, and only they are given out."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from starlette.testclient import TestClient

import heritage_align.service

PAGE = Path(heritage_align.service.__file__).parent / "page"
FILES = sorted(path.name for path in PAGE.iterdir())
SCRIPTS = {path.name: path.read_text("utf-8") for path in PAGE.glob("*.js")}


class Reader(HTMLParser):
    """Keeps every element with its attributes, and the text of scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.within: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] in ("script", "style"):
            self.within.append(data.strip())


@pytest.fixture(scope="module")
def html() -> Reader:
    reader = Reader()
    reader.feed((PAGE / "index.html").read_text("utf-8"))
    return reader


def test_the_page_comes_with_a_strict_policy(client: TestClient) -> None:
    answer = client.get("/")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert (policy["script-src"], policy["style-src"], policy["connect-src"]) == ("'self'",) * 3
    assert "unsafe" not in str(policy)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_given_out_once(client: TestClient, name: str) -> None:
    answer = client.get(f"/page/{name}")
    assert (answer.status_code, answer.content) == (200, (PAGE / name).read_bytes())
    again = client.get(f"/page/{name}", headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("name", ["../app.py", "..%2Fapp.py", "%2e%2e/app.py", "app.py", "", ".", "页"])
def test_nothing_else_is(client: TestClient, name: str) -> None:
    assert client.get(f"/page/{name}").status_code == 404


def test_the_page_needs_no_token_and_can_be_left_out(limited: Callable[..., TestClient]) -> None:
    closed = limited(token="s3cret")
    assert closed.get("/").status_code == closed.get("/page/page.js").status_code == 200
    assert closed.get("/items").status_code == 401
    without = limited(page=False)
    assert without.get("/").status_code == without.get("/page/page.js").status_code == 404
    assert without.get("/recipes").status_code == 200


def test_what_the_html_names_is_there_and_nothing_is_within_it(html: Reader) -> None:
    named = [
        attributes.get("src") or attributes.get("href")
        for tag, attributes in html.elements
        if tag in ("script", "link", "img")
    ]
    assert {name for name in named if name} <= {f"page/{name}" for name in FILES}
    assert not any(html.within)
    inline = [
        name for _, attributes in html.elements for name in attributes if name.startswith("on") or name == "style"
    ]
    assert inline == []


@pytest.mark.parametrize("name", FILES)
def test_no_file_names_another_host(name: str) -> None:
    found = re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]+", (PAGE / name).read_text("utf-8"))
    assert [address for address in found if address != "http://www.w3.org"] == []


def test_modules_import_what_is_there() -> None:
    for name, text in SCRIPTS.items():
        for imported, module in re.findall(r"import \{([^}]+)\} from \"\./([\w.]+)\"", text):
            exported = re.findall(r"export (?:async )?(?:const|class|function) (\w+)", SCRIPTS[module])
            assert {each.strip() for each in imported.split(",")} <= set(exported), (name, module)


def test_both_languages_say_everything_and_nothing_unused(html: Reader) -> None:
    blocks = re.findall(r"\n  (en|zh): \{\n(.*?)\n  \},", SCRIPTS["words.js"], re.S)
    words = {language: dict(re.findall(r"^    (\w+): \"(.*)\",$", block, re.M)) for language, block in blocks}
    assert list(words["en"]) == list(words["zh"])
    for key, english in words["en"].items():
        assert set(re.findall(r"\{\w+\}", english)) == set(re.findall(r"\{\w+\}", words["zh"][key])), key
    in_html = {
        value
        for _, attributes in html.elements
        for name, value in attributes.items()
        if name in ("data-word", "data-label", "data-placeholder")
    }
    code = "\n".join(text for name, text in SCRIPTS.items() if name != "words.js")
    said = {
        key
        for form in (r"(?:say|new Trouble)\(\"(\w+)\"", r"(?:say|new Trouble)\([^\"\n]*\? \"(\w+)\"")
        for key in re.findall(form, code)
    }
    assert len(said) > 20
    assert said | in_html <= set(words["en"])
    quoted = set(re.findall(r"\"(\w+)\"", code)) | {"other"}  # words.js says this one itself
    assert [key for key in words["en"] if key not in in_html | quoted] == []


def test_items_are_listed_in_the_order_of_the_store(client: TestClient) -> None:
    whole = client.get("/items").json()
    assert whole["total"] == len(whole["ids"]) == 12
    assert whole["recipe"] == "late-interaction"
    part = client.get("/items", params={"start": 10, "count": 5, "recipe": "global"}).json()
    assert (part["ids"], part["total"]) == (whole["ids"][10:], 12)
    assert client.get("/items", params={"start": 10**6}).json()["ids"] == []
    assert client.get("/items", params={"recipe": "nowhere"}).status_code == 404
    for wrong in ({"start": -1}, {"count": 0}, {"count": 1001}, {"start": 2**63}, {"count": "all"}):
        assert client.get("/items", params=wrong).status_code == 422
