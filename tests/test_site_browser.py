"""The pages of a site in a real browser: nothing is loaded, tables sort, cards filter, links lead on, a telephone."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reported import HOSTILE
from stage_bench.leaderboard.site import placing
from test_publish import board, files_of
from test_submission import runs, sound


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site with a hostile draft, and one card of 210 results."""
    many = [run for place in range(210) for run in runs(f"gcn(k={place})", [0.5, 0.6, 0.7, 0.8 - place / 1000])]
    boards = [
        board(*sound(), suite="small", description="A small one."),
        board(*many, suite="many"),
        board(*runs(HOSTILE, [0.5, 0.6, 0.7, 0.8], llm=HOSTILE), suite=HOSTILE, description=HOSTILE, draft=True),
    ]
    place = tmp_path_factory.mktemp("published") / "under" / "a path"
    placing.put(place, files_of(*boards), [])
    return place


@pytest.fixture
def visit(browser: Any, folder: Path) -> Iterator[Callable[..., Any]]:
    """Opens a page of the site; after the test nothing was said, run, or loaded but pages of the site."""
    contexts = []
    noise: list[str] = []

    def requested(request: Any) -> None:
        if not (request.url.startswith(folder.as_uri()) and request.is_navigation_request()):
            noise.append(f"request: {request.url[:100]}")

    def open_(page: str, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce", **options)
        contexts.append(context)
        tab = context.new_page()
        tab.set_default_timeout(10_000)
        tab.on("console", lambda message: noise.append(f"console: {message.text}"))
        tab.on("pageerror", lambda error: noise.append(f"error: {error}"))
        tab.on("dialog", lambda dialog: (noise.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        tab.on("request", requested)
        tab.goto((folder / page).as_uri())
        return tab

    yield open_
    assert all(tab.evaluate("window.pwned") is None for context in contexts for tab in context.pages)
    for context in contexts:
        context.close()
    assert noise == []


def test_from_the_index_to_a_card_to_a_board(visit: Callable[..., Any], folder: Path) -> None:
    tab = visit("index.html")
    tab.locator("#backbones a", has_text="mlp").click()
    assert tab.url == (folder / "models" / "backbone-mlp.html").as_uri()
    assert tab.locator("h1").text_content() == "mlp"
    tab.locator("#results a").first.click()
    assert tab.url == (folder / "small" / "index.html").as_uri()


def test_tables_sort(visit: Callable[..., Any]) -> None:
    tab = visit("index.html")
    tab.locator("#best [data-key=test_accuracy] button").click()
    shown = [float(text.split()[0]) for text in tab.locator("#best tbody td.number:nth-child(3)").all_text_contents()]
    assert shown == sorted(shown)
    assert len(shown) == 3


def test_a_card_filters_and_shows_the_rest(visit: Callable[..., Any]) -> None:
    tab = visit("models/backbone-gcn.html")
    tab.locator("#results-block .more", has_text="200 of 211 rows").wait_for()
    tab.locator("#filters [name=q]").fill("k=209)")
    tab.locator("#count", has_text="1 of 211 rows shown").wait_for()
    assert tab.locator("#results tbody tr").count() == 1
    assert tab.locator("#results tbody a").get_attribute("href") == "../many/index.html"


def test_the_theme_can_be_chosen(visit: Callable[..., Any]) -> None:
    tab = visit("index.html", color_scheme="light")
    paper = "getComputedStyle(document.body).backgroundColor"
    before = tab.evaluate(paper)
    tab.locator("#theme").click()
    tab.locator("#theme").click()
    assert tab.locator("#theme").text_content() == "Theme: dark"
    assert tab.evaluate(paper) != before


@pytest.mark.parametrize("page", ["index.html", "models/backbone-gcn.html", "models/llm-minilm.html"])
def test_a_telephone_has_no_page_to_push_sideways(visit: Callable[..., Any], page: str) -> None:
    tab = visit(page)
    tab.set_viewport_size({"width": 360, "height": 740})
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360


def test_without_script_all_is_there(visit: Callable[..., Any]) -> None:
    tab = visit("index.html", java_script_enabled=False)
    assert tab.locator("#best tbody tr").count() == 3
    assert tab.locator("article.board").count() == 3
    assert not tab.locator("#theme").is_visible()
