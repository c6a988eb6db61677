"""index.html in a real browser: sorting, filters, the details of runs, keyboard, themes, a telephone; nothing runs
that should not, and nothing is loaded. Debian's Chromium, driven by Playwright's Python package."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import reported
from stage_bench.leaderboard import report
from stage_bench.leaderboard.page import cells, page, run_data
from stage_bench.leaderboard.page.page import html

CORA = '[id="on-cora.random-60-20-20-board"]'
COST = '[id="on-cora.random-60-20-20-cost"]'


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, report.Report | None], Path]:
    """Writes the page of a report once; of the example where none is given."""
    folder = tmp_path_factory.mktemp("pages")

    def write(name: str, made: report.Report | None = None) -> Path:
        path = folder / f"{name}.html"
        if not path.exists():
            made = made or reported.example(tmp_path_factory.mktemp("published"))
            path.write_text(html(made, reported.plots()), encoding="utf-8")
        return path

    return write


@pytest.fixture
def visit(browser: Any, files: Callable[..., Path]) -> Iterator[Callable[..., Any]]:
    """Opens a page of `files`; after the test, nothing was said on the console, asked, run or loaded."""
    contexts = []
    noise: list[str] = []
    allowed: set[str] = set()

    def requested(request: Any) -> None:
        address = request.url.split("#")[0]
        if address not in allowed and not address.startswith("data:image/svg+xml"):
            noise.append(f"request: {address[:100]}")

    def open_(name: str = "example", made: report.Report | None = None, place: str = "", **options: Any) -> Any:
        path = files(name, made)
        context = browser.new_context(viewport={"width": 1400, "height": 900}, reduced_motion="reduce", **options)
        contexts.append(context)
        tab = context.new_page()
        tab.set_default_timeout(10_000)
        tab.on("console", lambda message: noise.append(f"console: {message.text}"))
        tab.on("pageerror", lambda error: noise.append(f"error: {error}"))
        tab.on("dialog", lambda dialog: (noise.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        tab.on("request", requested)
        allowed.add(path.as_uri())
        tab.goto(path.as_uri() + place)
        assert tab.evaluate("window.pwned") is None
        return tab

    yield open_
    assert all(tab.evaluate("window.pwned") is None for context in contexts for tab in context.pages)
    for context in contexts:
        context.close()
    assert noise == []


def column(tab: Any, table: str, key: str) -> list[str]:
    """The texts of a column's cells, without what is small or behind them; details of opened rows are no rows."""
    return tab.evaluate(
        """([table, key]) => {
            const element = document.querySelector(table);
            const place = Array.from(element.tHead.rows[0].cells).findIndex((cell) => cell.dataset.key === key);
            return Array.from(element.tBodies[0].rows)
                .filter((row) => !row.classList.contains("details"))
                .map((row) => (row.cells[place].querySelector(".m") ?? row.cells[place]).textContent);
        }""",
        [table, key],
    )


def heading(tab: Any, table: str, key: str) -> Any:
    return tab.locator(f"{table} thead [data-key={key}]")


def select(tab: Any, name: str, value: str) -> None:
    tab.locator(f"#filters [name={name}]").select_option(value)


def settled(tab: Any, text: str) -> None:
    """Waits until the page has counted what the filter shows."""
    tab.locator("#count", has_text=re.compile(f"^{text}$")).wait_for()


# --- sorting


def test_headings_sort_up_then_down(visit: Callable[..., Any]) -> None:
    tab = visit()
    button = heading(tab, CORA, "total_seconds").locator("button")
    button.click()
    up = [float(value) for value in column(tab, CORA, "total_seconds") if value]
    assert up == sorted(up)
    assert column(tab, CORA, "total_seconds")[-1] == "", "empty cells are last"
    assert heading(tab, CORA, "total_seconds").get_attribute("aria-sort") == "ascending"
    assert heading(tab, CORA, "rank").get_attribute("aria-sort") is None
    button.click()
    down = [float(value) for value in column(tab, CORA, "total_seconds") if value]
    assert down == up[::-1]
    assert column(tab, CORA, "total_seconds")[-1] == "", "either way"
    assert heading(tab, CORA, "total_seconds").get_attribute("aria-sort") == "descending"


def test_numbers_sort_as_numbers_and_texts_know_numbers(visit: Callable[..., Any]) -> None:
    tab = visit("ten", reported.huge(backbones=12, datasets=1, seeds=2))
    board = '[id="on-data-0.random-60-20-20-board"]'
    heading(tab, board, "backbone").locator("button").click()
    assert column(tab, board, "backbone") == [f"gcn(hidden={number})" for number in range(12)]
    heading(tab, board, "rank").locator("button").click()
    assert column(tab, board, "rank") == [str(number) for number in range(1, 13)]


def test_equal_cells_keep_the_order_of_the_page(visit: Callable[..., Any]) -> None:
    tab = visit()
    before = column(tab, CORA, "backbone")
    heading(tab, CORA, "val_accuracy").locator("button").click()
    heading(tab, CORA, "features").locator("button").click()
    shallow = column(tab, CORA, "features").index("tf-idf")
    after = column(tab, CORA, "backbone")
    assert shallow == 0
    assert after == [before[6], *before[:6], *before[7:]]


# --- filters


def test_a_filter_ranks_anew_and_is_in_the_address(visit: Callable[..., Any]) -> None:
    tab = visit()
    assert column(tab, CORA, "rank") == ["1", "2", "3", "3", "5", "6", "7", "8", "", ""]
    tab.locator("#filters [name=q]").fill("GCN")
    settled(tab, r"\d+ of 18 rows shown")
    assert column(tab, CORA, "backbone") == ["gcn", "gcn2", "gcn", "gcn", reported.HOSTILE_BACKBONE]
    assert column(tab, CORA, "rank") == ["1", "1", "3", "4", "5"], "ties share the better rank"
    note = tab.locator(f"{CORA.replace('board', 'board-block')} .rank-note")
    assert "rank among the 5 rows shown" in note.inner_text()
    assert tab.locator(f"{CORA} tbody td:first-child small").first.is_hidden(), "intervals hold for the whole table"
    assert "#q=GCN" in tab.url
    assert column(tab, COST, "time_rank") == ["1", "2", "3", "4", ""]
    tab.locator("#filters [type=reset]").click()
    settled(tab, "18 rows")
    assert column(tab, CORA, "rank") == ["1", "2", "3", "3", "5", "6", "7", "8", "", ""]
    assert note.is_hidden()
    assert tab.locator(f"{CORA} tbody td:first-child small").first.is_visible()
    assert "#" not in tab.url


def test_incomplete_rows_have_no_rank_however_few_are_shown(visit: Callable[..., Any]) -> None:
    tab = visit()
    select(tab, "backbone", "revgat")
    settled(tab, "1 of 18 rows shown")
    assert column(tab, CORA, "rank") == [""]


def test_facets_act_on_all_tables(visit: Callable[..., Any]) -> None:
    tab = visit()
    select(tab, "dataset", "arxiv")
    settled(tab, "5 of 18 rows shown")
    assert tab.locator(CORA).is_hidden()
    assert set(column(tab, "#runs-table", "dataset")) == {"arxiv"}
    assert tab.locator("#mean-ranks-table").is_visible(), "it is over all datasets"
    assert tab.locator("#tuning").is_hidden()
    select(tab, "backbone", "gcn")
    settled(tab, "2 of 18 rows shown")
    assert column(tab, "#mean-ranks-table", "backbone") == ["gcn"]
    select(tab, "origin", "published")
    settled(tab, "1 of 18 rows shown")
    assert tab.locator("#runs").is_hidden()
    tab.locator("#filters [name=q]").fill("no such words")
    settled(tab, "0 of 18 rows shown")
    assert tab.locator("#nothing").is_visible()


def test_a_shared_link_shows_the_same_rows(visit: Callable[..., Any]) -> None:
    tab = visit(place="#backbone=gcn&q=graph-aware%20e5")
    settled(tab, "1 of 18 rows shown")
    assert tab.locator("#filters [name=backbone]").input_value() == "gcn"
    assert tab.locator("#filters [name=q]").input_value() == "graph-aware e5"
    assert column(tab, CORA, "rank") == ["1"]
    tab.locator('nav a[href="#reading"]').click()
    assert tab.url.endswith("#reading&q=graph-aware%20e5&backbone=gcn")
    assert tab.evaluate("document.activeElement.id") == "reading"


def test_a_place_that_a_link_leads_to_is_in_sight(
    visit: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "_HEAVY", 10)  # sections are laid out only when they come into sight
    tab = visit("heavy", reported.example(tmp_path))
    for place in ("runs", "on-cora.random-60-20-20"):
        tab.locator(f'nav a[href="#{place}"]').click()
        tab.wait_for_function(
            """(id) => {
                const below = document.getElementById("filters").getBoundingClientRect().bottom;
                const { top } = document.getElementById(id).getBoundingClientRect();
                return top >= below && top < below + 40;
            }""",
            arg=place,
        )


def test_a_link_with_what_the_page_does_not_have_filters_nothing(visit: Callable[..., Any]) -> None:
    tab = visit(place="#backbone=no-such&other=1&%=%")
    settled(tab, "18 rows")


def test_a_hostile_name_can_be_filtered_for(visit: Callable[..., Any]) -> None:
    tab = visit()
    select(tab, "backbone", reported.HOSTILE_BACKBONE)
    settled(tab, "1 of 18 rows shown")
    tab.locator(f"{CORA} button.open").click()
    tab.locator("tr.details a").click()
    assert reported.HOSTILE_BACKBONE in tab.locator("#run-body .lead").inner_text()
    assert "</script><script>" in tab.locator("#run-body").inner_text()


# --- runs


def test_a_row_opens_to_its_runs_and_a_run_to_its_curve(visit: Callable[..., Any]) -> None:
    tab = visit()
    tab.locator(f"{CORA} button.open").nth(1).click()
    details = tab.locator(f"{CORA} tr.details")
    assert "not separable from the best" in details.inner_text()
    assert details.locator("tbody tr").count() == 4
    link = details.locator("a").first
    link.click()
    assert tab.url.endswith("#run-sage-0")
    dialog = tab.locator("#run")
    assert dialog.locator("h2").inner_text() == "Run sage-0"
    curve = dialog.locator("svg.curve")
    assert curve.is_visible()
    assert "13 epochs" in curve.get_attribute("aria-label")
    line = curve.locator("path.line").get_attribute("d")
    assert line.count("M") == 2, "one epoch has no number: a gap"
    assert line.count("L") == 10
    text = dialog.inner_text()
    assert "backbone.hidden" in text
    assert "versions.torch" in text
    assert "2.13.0" in text
    assert str(2**60) in text
    tab.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
    tab.wait_for_function("!location.hash")
    assert tab.evaluate("document.activeElement.textContent") == "sage-0"


def test_a_link_to_a_run_opens_it(visit: Callable[..., Any]) -> None:
    tab = visit(place="#run-revgat-2")
    text = tab.locator("#run").inner_text()
    assert "Traceback (most recent call last):\nin train" in text
    assert "failed" in text
    tab.locator("#run-close").click()
    tab.locator("#run").wait_for(state="hidden")


def test_an_ensemble_names_its_members(visit: Callable[..., Any]) -> None:
    tab = visit(place="#run-stage-0&dataset=cora")
    tab.locator("#run tbody a", has_text="mlp-0").click()
    assert tab.locator("#run h2").inner_text() == "Run mlp-0"
    assert tab.url.endswith("#run-mlp-0&dataset=cora")
    tab.go_back()
    tab.locator("#run h2", has_text="stage-0").wait_for()


def test_a_run_without_details_says_where_they_are(visit: Callable[..., Any]) -> None:
    tab = visit(place="#run-mlp-3")
    assert "stage-bench show run mlp-3" in tab.locator("#run").inner_text()
    assert tab.locator("#run svg").count() == 0
    assert "0.8350" in tab.locator("#run").inner_text()
    tab = visit(place="#run-no-such")
    assert "no such run" in tab.locator("#run").inner_text()


def test_back_closes_a_run(visit: Callable[..., Any]) -> None:
    tab = visit()
    tab.locator("#runs-table tbody a").first.click()
    assert tab.locator("#run").is_visible()
    tab.go_back()
    tab.locator("#run").wait_for(state="hidden")


# --- keyboard


def test_the_keyboard_alone_sorts_opens_and_closes(visit: Callable[..., Any]) -> None:
    tab = visit()
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.className") == "skip"
    tab.keyboard.press("Enter")
    assert tab.evaluate("document.activeElement.id") == "main"

    def tab_to(reached: str) -> None:
        for _ in range(120):
            tab.keyboard.press("Tab")
            if tab.evaluate(f"document.activeElement.matches({reached!r})"):
                return
        raise AssertionError(f"no {reached} within 120 steps")

    tab_to('[id="on-arxiv.official-board"] [data-key="val_accuracy"] button')
    assert tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid", "focus can be seen"
    tab.keyboard.press("Enter")
    board = '[id="on-arxiv.official-board"]'
    values = [float(value) for value in column(tab, board, "val_accuracy")]
    assert values == sorted(values)
    tab_to(f"{board} button.open")
    tab.keyboard.press("Space")
    assert tab.evaluate("document.activeElement.getAttribute('aria-expanded')") == "true"
    tab_to(f"{board} tr.details a")
    tab.keyboard.press("Escape")
    assert tab.locator(f"{board} tr.details").count() == 0
    assert tab.evaluate("document.activeElement.getAttribute('aria-expanded')") == "false"


# --- looks


def background(tab: Any) -> str:
    return tab.evaluate("getComputedStyle(document.body).backgroundColor")


def test_light_and_dark_follow_the_system_until_told_otherwise(visit: Callable[..., Any]) -> None:
    tab = visit()
    tab.emulate_media(color_scheme="light")
    light = background(tab)
    tab.emulate_media(color_scheme="dark")
    dark = background(tab)
    assert light != dark
    theme = tab.locator("#theme")
    assert theme.inner_text() == "Theme: as the system"
    theme.click()
    assert (theme.inner_text(), background(tab)) == ("Theme: light", light)
    tab.reload()
    assert background(tab) == light, "it is remembered"
    theme.click()
    tab.emulate_media(color_scheme="light")
    assert (theme.inner_text(), background(tab)) == ("Theme: dark", dark)
    theme.click()
    assert background(tab) == light


def contrast(tab: Any, selector: str) -> float:
    """WCAG's ratio of an element's text to what is behind it."""
    return tab.locator(selector).first.evaluate(
        """(element) => {
            const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
            const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
                .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
                .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
            let behind = element;
            while (channels(getComputedStyle(behind).backgroundColor)[3] === 0) behind = behind.parentElement;
            const [a, b] = [getComputedStyle(element).color, getComputedStyle(behind).backgroundColor]
                .map((colour) => light(channels(colour))).sort((x, y) => y - x);
            return (a + 0.05) / (b + 0.05);
        }"""
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(visit: Callable[..., Any], scheme: str) -> None:
    tab = visit(color_scheme=scheme)
    texts = (".lead", ".basis", "thead button", ".m.best", ".m.suspect", ".m.failed", ".m.partial", ".quiet", "nav a",
             ".agrees", ".front", ".remark li", "td small", "#runs-table a")  # fmt: skip
    assert {selector: contrast(tab, selector) for selector in texts if contrast(tab, selector) < 4.5} == {}


def test_a_telephone_scrolls_tables_and_never_the_page(visit: Callable[..., Any]) -> None:
    tab = visit(is_mobile=True, has_touch=True)
    tab.set_viewport_size({"width": 360, "height": 740})
    tab.reload()
    fits = "document.scrollingElement.scrollWidth <= window.innerWidth"
    assert tab.evaluate(fits)
    around = tab.locator(f"{CORA.replace('board', 'board-block')} .scroll")
    assert around.evaluate("(element) => element.scrollWidth > element.clientWidth")
    name = tab.locator(f"{CORA} tbody th").first
    before = name.bounding_box()["x"]
    around.evaluate("(element) => { element.scrollLeft = 300; }")
    assert name.bounding_box()["x"] == before, "the name of a row stays in sight"
    tab.locator(f"{CORA} button.open").first.tap()
    assert tab.locator("tr.details .inside").bounding_box()["width"] <= 360
    assert tab.evaluate(fits)
    tab.locator("tr.details a").first.tap()
    assert tab.locator("#run").bounding_box()["width"] <= 360
    assert tab.evaluate(fits)


def test_without_script_the_tables_are_there(visit: Callable[..., Any]) -> None:
    tab = visit(java_script_enabled=False)
    assert tab.locator(f"{CORA} tbody tr").count() == 10
    assert tab.locator("#filters").is_hidden()
    assert tab.locator("button.open").first.is_hidden()
    assert "need JavaScript" in tab.inner_text("body")


# --- many rows


@pytest.fixture(scope="module")
def large() -> report.Report:
    return reported.huge(backbones=230, datasets=1, seeds=10)


def test_all_rows_are_sorted_filtered_and_shown_on_demand(visit: Callable[..., Any], large: report.Report) -> None:
    tab = visit("large", large)
    board = '[id="on-data-0.random-60-20-20-board"]'
    assert len(column(tab, board, "rank")) == 200
    heading(tab, board, "rank").locator("button").click()
    assert column(tab, board, "rank")[0] == "230", "descending now: the last of all, not of those shown"
    tab.get_by_role("button", name="Show all 230 rows").first.click()
    assert column(tab, board, "rank") == [str(rank) for rank in range(230, 0, -1)]
    tab.locator("#filters [name=q]").fill("hidden=229")
    settled(tab, "1 of 230 rows shown")
    assert column(tab, board, "rank") == ["1"]
    assert len(column(tab, "#runs-table", "id")) == 10
    tab.locator(f"{board} button.open").click()
    assert tab.locator("tr.details tbody tr").count() == 10
    tab.locator("tr.details a").last.click()
    assert "Configuration, environment and learning curve: in the results folder" in tab.locator("#run").inner_text()


def test_the_script_draws_rows_as_the_document_has_them(
    visit: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = (
        CORA,
        '[id="on-cora.random-60-20-20-published"]',
        COST,
        "#mean-ranks-table",
        "#times-table",
        "#runs-table",
    )

    def bodies(tab: Any) -> list[str]:
        for table in tables:
            tab.locator(f"{table} thead th").last.locator("button").click()  # the script draws what was not there
        found = "".join(tab.locator(f"{table} tbody").inner_html() for table in tables)
        # Python and JavaScript do not write all numbers alike.
        alike = re.sub('data-v="(.+?)"', lambda value: f'data-v="{float(value[1])}"', found)
        return [line for line in alike.replace("<tr", "\n<tr").splitlines() if line]

    expected = bodies(visit())
    for module in (cells, page, run_data):
        monkeypatch.setattr(module, "SHOWN", 1)
    assert bodies(visit("drawn", reported.example(tmp_path))) == expected
