"""The page in a real Chromium, against real processes of the service: what people do, by mouse, finger and keys."""

from __future__ import annotations

import base64
import itertools
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

import httpx
import numpy as np
import pytest
from PIL import Image
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from heritage_align.pipeline import Pipeline
from heritage_align.search import Searcher
from heritage_align.search.calibrate import calibrate
from heritage_align.search.everyday import everyday_texts
from heritage_align.search.relevance import write_calibration
from heritage_align.service.served import Source

pytestmark = pytest.mark.slow
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
TEXT = "red butterfly, blue moon"
SECRET = "s3cret-Token"


class Page:
    """What a person sees of the page, and does."""

    def __init__(self, browser: webdriver.Chrome, url: str) -> None:
        self.browser, self.url = browser, url

    def open(self, address: str = "", ready: str = ".card") -> Page:
        """Come from elsewhere, as by a link."""
        self.browser.get("about:blank")
        self.browser.get(f"{self.url}/{address}")
        if ready:
            self.wait(lambda: self.all(ready))
            self.settled()
        return self

    def settled(self) -> None:
        """Wait for the answers of the question that was asked."""
        self.wait(lambda: not self.all("#results[aria-busy]"))

    def all(self, selector: str) -> list[WebElement]:
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def wait(self, holds: Callable[[], Any], seconds: float = 15) -> Any:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                found = holds()
            except StaleElementReferenceException:
                found = None
            if found:
                return found
            time.sleep(0.02)
        raise AssertionError(f"{self.browser.current_url}: {self.one('body').text[:800]}")

    def ids(self, column: int = 0) -> list[str]:
        """The pictures of a column of results, in their order."""
        script = "return [...document.querySelectorAll('.column')[arguments[0]]?.querySelectorAll('.card') ?? []]"
        found: list[str] = self.browser.execute_script(f"{script}.map((card) => card.dataset.id)", column)
        return found

    @property
    def said(self) -> str:
        return self.one("#status").text

    @property
    def focused(self) -> WebElement:
        return self.browser.switch_to.active_element

    @property
    def state(self) -> dict[str, str]:
        """What the address says."""
        return {name: value for name, [value] in parse_qs(self.browser.current_url.partition("#")[2]).items()}

    def keys(self, *keys: str) -> None:
        for key in keys:
            ActionChains(self.browser).send_keys(key).perform()

    def search(self, text: str) -> None:
        box = self.one("#text")
        box.clear()
        box.send_keys(text, Keys.ENTER)
        self.wait(lambda: self.state.get("q") == text)
        self.settled()

    def look_at(self, place: int) -> None:
        """Open a result, and wait for its picture."""
        self.all(".card")[place].click()
        self.wait(lambda: self.all("#detail[open] #detail-frame.there"))

    def violations(self) -> list[str]:
        """What axe-core finds wrong."""
        self.browser.execute_script((files("axe_core_python") / "axe.min.js").read_text("utf-8"))
        found = self.browser.execute_async_script("axe.run().then(arguments[0])")["violations"]
        return [f"{each['id']}: {node['html']} {node['failureSummary']}" for each in found for node in each["nodes"]]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("no chromium with chromedriver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    folder = tmp_path_factory.mktemp("chromium")
    for flag in ("headless", "no-sandbox", "disable-gpu", "disable-background-networking", "disable-dev-shm-usage"):
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={folder}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    browser.set_script_timeout(30)
    yield browser
    browser.quit()


@pytest.fixture
def chromium(browser: webdriver.Chrome) -> Iterator[webdriver.Chrome]:
    """The browser as new; what it complains of beside answers that are no pictures fails the test."""
    size(browser, 1200, 900)
    speak(browser, "en-US")
    dress(browser, "light")
    browser.get_log("browser")
    yield browser
    complaints = [line["message"] for line in browser.get_log("browser") if line["level"] == "SEVERE"]
    browser.execute_cdp_cmd("Storage.clearDataForOrigin", {"origin": "*", "storageTypes": "all"})
    assert [line for line in complaints if "Failed to load resource" not in line] == []


def size(browser: webdriver.Chrome, width: int, height: int, mobile: bool = False) -> None:
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def dress(browser: webdriver.Chrome, theme: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": theme}, {"name": "prefers-reduced-motion", "value": "reduce"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def speak(browser: webdriver.Chrome, language: str) -> None:
    agent = browser.execute_script("return navigator.userAgent")
    browser.execute_cdp_cmd("Emulation.setUserAgentOverride", {"userAgent": agent, "acceptLanguage": language})


@pytest.fixture
def page(chromium: webdriver.Chrome, service: Any) -> Page:
    return Page(chromium, service.url)


@pytest.fixture(scope="module")
def calibrated(sources: list[Source], tmp_path_factory: pytest.TempPathFactory) -> Source:
    """Recipe global with a calibration, in a store of its own."""
    source = sources[1]
    folder = tmp_path_factory.mktemp("calibrated") / "store"
    shutil.copytree(source.store, folder)
    pipeline = Pipeline(source.config)
    with Searcher.open(pipeline, folder) as searcher:
        write_calibration(pipeline, searcher.store, calibrate(searcher, everyday_texts(), "everyday", count=50))
    return Source(source.config, folder)


def test_a_text_by_keyboard_alone(page: Page, http: httpx.Client) -> None:
    page.open()
    assert page.one("h2").text == "From the collection"
    page.keys(Keys.TAB, Keys.TAB, Keys.TAB)  # the way past the query, the language, the box
    assert page.focused.get_attribute("id") == "text"
    page.keys(TEXT, Keys.ENTER)
    page.wait(lambda: "5 pictures by late-interaction" in page.said)
    answer = http.post("/search", json={"text": TEXT}).json()
    assert page.ids() == [hit["id"] for hit in answer["hits"]]
    assert page.one("#status").get_attribute("role") == "status"
    assert [each.text for each in page.all(".legend .phrase")] == TEXT.split(", ")
    while "card" not in page.focused.get_attribute("class"):
        page.keys(Keys.TAB)
    page.keys(Keys.ENTER)
    page.wait(lambda: page.all("#detail[open]"))
    assert page.one("#detail-name").text == answer["hits"][0]["id"]
    page.keys(Keys.ARROW_RIGHT)
    page.wait(lambda: page.one("#detail-name").text == answer["hits"][1]["id"])
    page.keys(Keys.ESCAPE)
    page.wait(lambda: not page.all("#detail[open]"))
    assert page.focused.get_attribute("data-id") == answer["hits"][1]["id"]


def test_a_link_restores_what_was_seen_and_the_browser_goes_back(page: Page) -> None:
    page.open()
    page.search(TEXT)
    found = page.ids()
    page.look_at(2)
    link = page.browser.current_url
    assert page.state == {"q": TEXT, "by": "late-interaction", "open": found[2], "at": "late-interaction"}
    page.open(link.rpartition("/")[2], ready="#detail[open] .there")
    assert (page.one("#text").get_attribute("value"), page.ids()) == (TEXT, found)
    assert page.one("#detail-name").text == found[2]
    page.open()
    page.search("crane")
    page.search(TEXT)
    page.look_at(0)
    page.browser.back()
    page.wait(lambda: not page.all("#detail[open]"))
    page.browser.back()
    page.wait(lambda: page.one("#text").get_attribute("value") == "crane")
    page.settled()
    page.browser.back()
    page.wait(lambda: page.one("h2").text == "From the collection")


@pytest.mark.parametrize(
    "address",
    ["#box=a,b&weight=x&fits=2&open=", "#by=nowhere", "#own=1", "#q=%00%ff", "#q=" + "x" * 1999, "#beside=%22"],
)
def test_an_address_of_nonsense_shows_what_it_can(page: Page, address: str) -> None:
    page.open(address)
    assert page.ids()
    if "own" in address:
        assert page.said == "The query of this link had a picture that a link cannot hold. Choose it again."


def test_a_phrase_lights_its_box_and_a_box_its_phrase(page: Page, http: httpx.Client) -> None:
    page.open(f"#q={quote(TEXT)}")
    page.look_at(0)
    phrases = page.wait(lambda: page.all("#phrases .phrase"))
    page.wait(lambda: page.one("#every-line").is_displayed())
    phrases, boxes = page.all("#phrases .phrase"), page.all("#detail-frame .box")
    answer = http.post("/explain", json={"id": page.one("#detail-name").text, "text": TEXT}).json()
    assert [each.text.split("\n")[0] for each in phrases] == [each["phrase"] for each in answer["phrases"]]
    frame = page.one("#detail-frame").rect
    for place, told in enumerate(answer["phrases"]):
        [box] = [each for each in boxes if each.get_attribute("data-place") == str(place)]
        x0, y0, x1, y1 = answer["regions"][told["region"]]["box"]
        rect = box.rect
        left, top = (rect["x"] - frame["x"]) / frame["width"], (rect["y"] - frame["y"]) / frame["height"]
        assert (left, top) == pytest.approx((x0, y0), abs=0.01)
        assert (rect["width"] / frame["width"], rect["height"] / frame["height"]) == pytest.approx(
            (x1 - x0, y1 - y0), abs=0.01
        )
        for pointed, lit in ((phrases[place], box), (box, phrases[place])):
            page.browser.execute_script("arguments[0].focus()", pointed)
            assert [each for each in page.all("#detail .on") if each in (*phrases, *boxes)] == page.all(
                f'#detail [data-place="{place}"]'
            )
            assert "on" in lit.get_attribute("class")
    ActionChains(page.browser).move_to_element(phrases[1]).perform()
    page.wait(lambda: page.all('#detail-frame .box.on[data-place="1"]'))
    page.one("#every").click()
    assert page.all("#detail-frame canvas.shade")


def test_a_box_by_keyboard_is_the_next_query(page: Page, http: httpx.Client) -> None:
    page.open(f"#q={quote(TEXT)}")
    page.look_at(0)
    shown = page.one("#detail-name").text
    page.one("#mark").send_keys(Keys.ENTER)
    page.keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT, Keys.ARROW_UP)
    ActionChains(page.browser).key_down(Keys.SHIFT).send_keys(Keys.ARROW_RIGHT).key_up(Keys.SHIFT).perform()
    assert (
        page.focused.get_attribute("aria-label") == "Frame: 26 % from the left, 28 % from the top, 42 % wide, 40 % high"
    )
    page.keys(Keys.ENTER)
    page.wait(lambda: page.state.get("id") == shown)
    page.settled()
    box = [float(value) for value in page.state["box"].split(",")]
    assert box == pytest.approx([0.26, 0.28, 0.68, 0.68])
    answer = http.post("/search", json={"pictures": [{"id": shown, "boxes": [box]}]}).json()
    assert page.ids() == [hit["id"] for hit in answer["hits"]]
    assert "q" not in page.state
    assert page.one(".legend .phrase").text == "your detail"
    page.one("#text").send_keys("blue moon", Keys.ENTER)  # and a text beside it
    page.wait(lambda: page.state.get("q") == "blue moon")
    page.settled()
    both = {"pictures": [{"id": shown, "boxes": [box]}], "text": "blue moon"}
    assert page.ids() == [hit["id"] for hit in http.post("/search", json=both).json()["hits"]]
    assert page.one("#weight").is_displayed()


def test_escape_removes_the_box_first_and_closes_then(page: Page) -> None:
    page.open().look_at(0)
    page.one("#mark").click()
    page.keys(*[Keys.ARROW_RIGHT] * 30)  # it stays within the picture
    assert "60 % from the left" in page.focused.get_attribute("aria-label")
    page.keys(Keys.ESCAPE)
    assert page.all("#detail[open]")
    assert not page.one("#detail-frame .drawn").is_displayed()
    page.one("#close").send_keys(Keys.ESCAPE)
    page.wait(lambda: not page.all("#detail[open]"))


def drawn(page: Page) -> list[float]:
    """The box that is drawn on the picture, in shares."""
    frame, box = page.one("#detail-frame").rect, page.one("#detail-frame .drawn").rect
    left, top = (box["x"] - frame["x"]) / frame["width"], (box["y"] - frame["y"]) / frame["height"]
    return [left, top, left + box["width"] / frame["width"], top + box["height"] / frame["height"]]


def test_a_box_by_mouse_is_drawn_moved_and_pulled(page: Page) -> None:
    page.open().look_at(0)
    frame = page.one("#detail-frame")
    width, height = frame.rect["width"], frame.rect["height"]

    def drag(start: tuple[float, float], end: tuple[float, float]) -> None:
        where = [(round((x - 0.5) * width), round((y - 0.5) * height)) for x, y in (start, end)]
        hand = ActionChains(page.browser).move_to_element_with_offset(frame, *where[0]).click_and_hold()
        hand.move_by_offset(where[1][0] - where[0][0], where[1][1] - where[0][1]).release().perform()

    drag((0.2, 0.3), (0.6, 0.5))
    assert drawn(page) == pytest.approx([0.2, 0.3, 0.6, 0.5], abs=0.01)
    drag((0.4, 0.4), (0.5, 0.6))
    assert drawn(page) == pytest.approx([0.3, 0.5, 0.7, 0.7], abs=0.01)
    drag((0.7, 0.7), (0.9, 0.95))
    assert drawn(page) == pytest.approx([0.3, 0.5, 0.9, 0.95], abs=0.02)
    page.one("#use").click()
    page.wait(lambda: "box" in page.state)
    assert [float(each) for each in page.state["box"].split(",")] == pytest.approx([0.3, 0.5, 0.9, 0.95], abs=0.02)


def test_a_finger_scrolls_until_a_box_is_asked_for(page: Page) -> None:
    size(page.browser, 390, 800, mobile=True)
    page.open().look_at(0)
    frame = page.one("#detail-frame").rect
    at = page.browser.execute_script("return document.querySelector('#detail-frame').getBoundingClientRect().toJSON()")

    def touch(*way: tuple[float, float]) -> None:
        points = [[{"x": at["x"] + x * frame["width"], "y": at["y"] + y * frame["height"]}] for x, y in way]
        kinds = ["touchStart", *["touchMove"] * (len(points) - 1), "touchEnd"]
        for kind, where in zip(kinds, [*points, []]):
            page.browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": where})

    touch((0.2, 0.6), (0.5, 0.5), (0.8, 0.2))
    assert not page.one("#detail-frame .drawn").is_displayed()
    page.browser.execute_script("document.querySelector('#mark').click()")
    page.browser.execute_script("document.querySelector('.look').scrollTo(0, 0)")
    touch((0.5, 0.5), (0.6, 0.6))
    assert drawn(page) == pytest.approx([0.4, 0.4, 0.8, 0.8], abs=0.02)
    touch((0.05, 0.1), (0.2, 0.2), (0.3, 0.35))
    assert drawn(page) == pytest.approx([0.05, 0.1, 0.3, 0.35], abs=0.02)


HAND_OVER = """
const [data, name, type, way] = arguments;
const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
const files = new DataTransfer();
files.items.add(new File([bytes], name, { type }));
const event = way === "drop" ? new DragEvent("drop", { dataTransfer: files, bubbles: true, cancelable: true })
  : new ClipboardEvent("paste", { clipboardData: files, bubbles: true, cancelable: true });
document.body.dispatchEvent(event);
"""


@pytest.fixture(scope="module")
def own(service: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture of the collection as a file on somebody's machine."""
    file = tmp_path_factory.mktemp("own") / "我的图 & <b>.png"
    data = httpx.get(f"{service.url}/items/test-00002-1/picture").content
    file.write_bytes(data)
    Image.open(file).save(file)
    return file


@pytest.mark.parametrize("way", ["choose", "drop", "paste"])
def test_a_picture_of_ones_own(page: Page, own: Path, way: str) -> None:
    page.open()
    if way == "choose":
        page.one("#file").send_keys(str(own))
    else:
        data = base64.b64encode(own.read_bytes()).decode()
        page.browser.execute_script(HAND_OVER, data, own.name, "image/png", way)
    page.wait(lambda: page.state.get("own") == "1")
    page.wait(lambda: page.all("#given-frame.there"))
    page.settled()
    assert page.ids()[0] == "test-00002-1"
    assert page.one("#given-name").text == own.name
    page.one("#given-mark").click()
    page.keys(Keys.ENTER)
    page.wait(lambda: "box" in page.state)
    page.settled()
    assert page.ids()[0].startswith("test-00002")
    page.one("#copy").click()
    page.wait(lambda: "a link cannot hold it" in page.said)
    page.browser.refresh()
    page.wait(lambda: "had a picture that a link cannot hold" in page.said)
    assert not page.one("#given").is_displayed()


def test_what_was_typed_goes_with_a_picture(page: Page, own: Path, http: httpx.Client) -> None:
    page.open()
    page.one("#text").send_keys("blue moon")
    page.one("#file").send_keys(str(own))
    page.wait(lambda: page.state.get("own") == "1" and page.state.get("q") == "blue moon")
    page.settled()
    data = base64.b64encode(own.read_bytes()).decode()
    answer = http.post("/search", json={"text": "blue moon", "pictures": [{"data": data}]}).json()
    assert page.ids() == [hit["id"] for hit in answer["hits"]]


def test_a_file_that_is_no_picture(page: Page) -> None:
    page.open()
    for name, kind, told in (
        ("a.txt", "text/plain", "That is no picture file."),
        ("a.png", "image/png", "does not take"),
    ):
        page.browser.execute_script(HAND_OVER, base64.b64encode(b"no picture").decode(), name, kind, "drop")
        page.wait(lambda told=told: told in page.one("#trouble").text)
    assert "Your browser cannot show" in page.one("#given-note").text
    page.one("#given-remove").click()
    page.wait(lambda: page.one("h2").text == "From the collection")
    assert not page.one("#trouble").is_displayed()


def test_a_large_picture_is_made_smaller_before_it_is_sent(page: Page, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (1800, 2400, 3), dtype=np.uint8)
    file = tmp_path / "large.png"
    Image.fromarray(noise).save(file)
    assert file.stat().st_size > 12_000_000  # in base64 more than the service takes
    page.open()
    page.one("#file").send_keys(str(file))
    page.wait(lambda: page.state.get("own") == "1" and "5 pictures" in page.said)


def test_two_recipes_side_by_side(page: Page, http: httpx.Client) -> None:
    page.open(f"#q={quote(TEXT)}")
    page.all("#other option")[1].click()
    page.wait(lambda: len(page.all(".column")) == 2)
    page.settled()
    answers = [
        http.post("/search", json={"text": TEXT, "recipe": name}).json() for name in ("late-interaction", "global")
    ]
    for column, answer in enumerate(answers):
        assert page.ids(column) == [hit["id"] for hit in answer["hits"]]
    ranks = {hit["id"]: hit["rank"] for hit in answers[1]["hits"]}
    for card in page.all(".column:first-child .card"):
        rank = ranks.get(card.get_attribute("data-id"))
        assert (f"no. {rank} by global" in card.text) == (rank is not None)
    assert page.state["beside"] == "global"
    page.browser.execute_script("document.querySelectorAll('.column')[1].querySelector('.card').click()")
    page.wait(lambda: "global compares whole pictures" in page.one("#detail-note").text)


def test_pictures_come_when_they_are_in_sight(page: Page) -> None:
    size(page.browser, 390, 500, mobile=True)
    page.open()
    page.wait(lambda: page.all(".card .there"))
    page.wait(lambda: len(page.all(".card .there")) >= 2)
    time.sleep(0.5)
    assert len(page.all(".card .there")) < len(page.all(".card")) == 12
    page.browser.execute_script("scrollTo(0, document.body.scrollHeight)")
    page.wait(lambda: len(page.all(".card .there")) == 12)


@pytest.fixture(scope="module")
def guarded(started: Callable[..., Any], calibrated: Source) -> Any:
    """A service that asks for a token, of a recipe that knows when nothing fits."""
    return started(source=calibrated, token=SECRET)


def test_a_token_is_asked_for_and_used_for_pictures_too(chromium: webdriver.Chrome, guarded: Any) -> None:
    page = Page(chromium, guarded.url).open(ready="#token[open]")
    assert page.violations() == []
    page.keys("wrong", Keys.ENTER)
    page.wait(lambda: "does not know this token" in page.one("#token-note").text)
    page.keys(Keys.ESCAPE)
    page.wait(lambda: "Without a token" in page.one("#trouble").text)
    page.one("#trouble button").click()
    page.wait(lambda: page.all("#token[open]"))
    page.keys(SECRET, Keys.ENTER)
    page.wait(lambda: page.all(".card .there"))
    page.browser.refresh()
    page.wait(lambda: page.all(".card .there"))  # kept for this tab
    assert SECRET not in page.browser.current_url
    assert page.browser.execute_script("return localStorage.length") == 0


def test_nothing_fits(chromium: webdriver.Chrome, guarded: Any) -> None:
    page = Page(chromium, guarded.url).open("#q=steam+locomotive&fits=0.95", ready="")
    page.wait(lambda: page.all("#token[open]"))
    page.keys(SECRET, Keys.ENTER)
    page.wait(lambda: page.all(".nothing"))
    assert page.one(".nothing").text == "Nothing in the collection fits, says global. Closest is:"
    assert len(page.ids()) == 1
    page.all("#fits option")[0].click()
    page.wait(lambda: len(page.ids()) == 5)
    assert "relevance" in page.one(".card").text


def test_a_busy_service_is_asked_again_and_one_that_stops_is_no_blank_page(
    chromium: webdriver.Chrome, started: Callable[..., Any]
) -> None:
    service = started(waiting=1, batch=1)
    page = Page(chromium, service.url).open()
    over = threading.Event()

    def hurry() -> None:
        with httpx.Client(base_url=service.url) as client:
            while not over.is_set():
                client.post("/explain", json={"id": "test-00000-0", "text": "crowd, " * 200})

    crowd = [threading.Thread(target=hurry) for _ in range(4)]
    for each in crowd:
        each.start()
    try:
        for number in itertools.count():
            assert number < 50, "never busy"
            page.one("#text").send_keys("x", Keys.ENTER)
            page.wait(lambda: page.said and page.said != "Searching…")
            if "Trying again in 1 s" in page.said:
                break
    finally:
        over.set()
        for each in crowd:
            each.join()
    page.wait(lambda: "5 pictures" in page.said)
    service.stop()
    page.one("#text").send_keys(TEXT, Keys.ENTER)
    page.wait(lambda: "cannot be reached" in page.one("#trouble").text)
    assert page.one("#trouble button").text == "Try again"


def test_offline_is_said_and_it_goes_on_by_itself(page: Page) -> None:
    page.open()
    network = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    page.browser.execute_cdp_cmd("Network.enable", {})
    page.browser.execute_cdp_cmd("Network.emulateNetworkConditions", {"offline": True, **network})
    page.one("#text").send_keys(TEXT, Keys.ENTER)
    page.wait(lambda: "cannot be reached" in page.one("#trouble").text)
    assert page.one("#trouble").get_attribute("role") == "alert"
    page.browser.execute_cdp_cmd("Network.emulateNetworkConditions", {"offline": False, **network})
    page.wait(lambda: "5 pictures" in page.said)
    assert not page.one("#trouble").is_displayed()


def test_texts_are_texts_whatever_is_in_them(page: Page) -> None:
    page.open()
    page.search("<b id=made onclick=x>, <script>")
    assert page.one(".legend").text.split("\n")[1:] == ["<b id=made onclick=x>", "<script>"]
    assert not page.all("#made, #results script")
    with pytest.raises(Exception, match="TrustedHTML"):
        page.browser.execute_script("document.body.innerHTML += '<p>'")
    assert "TrustedHTML" in page.browser.get_log("browser")[-1]["message"]


def test_both_languages_and_a_switch_that_stays(page: Page) -> None:
    speak(page.browser, "zh-CN,zh")
    page.open(f"#q={quote('红色蝴蝶，蓝色月亮')}")
    assert page.one("h1").text == "检索馆藏图像"
    assert page.one("html").get_attribute("lang") == "zh-Hans"
    assert page.said == "late-interaction：5 幅"
    assert [each.text for each in page.all(".legend .phrase")] == ["红色蝴蝶", "蓝色月亮"]
    page.look_at(0)
    captions = page.wait(lambda: page.all("#captions p"))
    assert [each.get_attribute("lang") for each in captions] == ["zh", "en"]
    page.one("#close").click()
    page.one("#language").click()
    assert (page.one("h1").text, page.said) == ("Search the collection", "5 pictures by late-interaction")
    page.browser.refresh()
    page.wait(lambda: page.one("h1").text == "Search the collection")


@pytest.mark.parametrize("width", [320, 390, 768])
@pytest.mark.parametrize("language", ["en-US", "zh-CN"])
def test_small_screens_do_not_scroll_sideways(page: Page, width: int, language: str) -> None:
    size(page.browser, width, 700, mobile=True)
    speak(page.browser, language)
    page.open("#q=crane&id=test-00000-0&beside=global&box=0.1,0.1,0.5,0.5")
    wide = "return [document.scrollingElement.scrollWidth, document.querySelector('#detail').scrollWidth]"
    assert page.browser.execute_script(wide)[0] <= width
    page.look_at(0)
    assert page.browser.execute_script(wide)[1] <= width
    assert page.one("#detail-frame").rect["width"] >= 0.6 * min(width, 700)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_is_in_the_way_of_people(page: Page, theme: str) -> None:
    dress(page.browser, theme)
    page.open()
    assert page.violations() == []
    page.open(f"#q={quote(TEXT)}&beside=global")
    page.all(".legend .phrase")[0].click()
    assert page.violations() == []
    page.look_at(0)
    page.wait(lambda: page.one("#every-line").is_displayed())
    page.one("#every").click()
    page.one("#mark").click()
    assert page.violations() == []
    page.open("#id=test-00000-0&q=moon&box=0.1,0.1,0.5,0.5")
    assert page.violations() == []
    page.open("#id=nowhere", ready="#trouble button")
    assert "not, or no longer, in the collection" in page.one("#trouble").text
    assert page.violations() == []
