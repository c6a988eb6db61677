"""index.html as text: what is escaped, what may run, what it says; that it loads nothing and is always the same."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import reported
from stage_bench.leaderboard import report, rows
from stage_bench.leaderboard.page import page, run_data, templates
from stage_bench.leaderboard.page.page import html
from stage_bench.leaderboard.page.prose import inline

VOID = {"meta", "img", "input", "br", "link", "hr"}
Element = dict[str, Any]


class Document(HTMLParser):
    """The elements of a page in order: tag, attributes, text, and the place of the one around it."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[Element] = []
        self.open: list[int] = []
        self.feed(text)
        self.close()
        assert not self.open, "an element is not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), f"{tag}: an attribute occurs twice"
        around = self.open[-1] if self.open else None
        self.elements.append({"tag": tag, "text": "", "around": around, **{name: value or "" for name, value in attrs}})
        if tag not in VOID:
            self.open.append(len(self.elements) - 1)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.elements[self.open.pop()]["tag"] == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        for place in self.open:
            self.elements[place]["text"] += data

    def all(self, tag: str, **attributes: str) -> list[Element]:
        return [
            element
            for element in self.elements
            if element["tag"] == tag and all(element.get(name) == value for name, value in attributes.items())
        ]

    def inside(self, outer: Element, *tags: str) -> list[Element]:
        """Elements inside another, at any depth."""
        place = next(place for place, element in enumerate(self.elements) if element is outer)
        within = {place}
        found = []
        for index in range(place + 1, len(self.elements)):
            if self.elements[index]["around"] in within:
                within.add(index)
                if self.elements[index]["tag"] in tags:
                    found.append(self.elements[index])
        return found

    def data(self) -> Any:
        (script,) = self.all("script", type="application/json")
        return json.loads(script["text"])

    def rows(self, table: str) -> list[dict[str, Element]]:
        """The body of a table: each row's cells by column."""
        (outer,) = self.all("table", id=table)
        keys = [cell["data-key"] for cell in self.inside(outer, "th") if "data-key" in cell]
        bodies = self.inside(outer, "tbody")
        found = []
        for row in self.inside(bodies[0], "tr"):
            cells = self.inside(row, "td", "th")
            assert len(cells) == len(keys)
            found.append(dict(zip(keys, cells, strict=True)))
        return found


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> report.Report:
    return reported.example(tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="module")
def text(example: report.Report) -> str:
    return html(example, reported.plots())


@pytest.fixture(scope="module")
def document(text: str) -> Document:
    return Document(text)


CORA = "on-cora.random-60-20-20"


def words(cell: Element) -> str:
    return " ".join(cell["text"].split())


# --- a document that a browser and a screen reader understand


def test_ids_are_unique_and_references_lead_somewhere(document: Document) -> None:
    ids = [element["id"] for element in document.elements if "id" in element]
    assert len(set(ids)) == len(ids)
    for element in document.elements:
        if "aria-labelledby" in element:
            assert element["aria-labelledby"] in ids
        href = element.get("href", "")
        if href.startswith("#") and not href.startswith("#run-"):
            assert href[1:] in ids, href


def test_every_table_has_a_caption_scopes_and_headings_that_are_buttons(document: Document) -> None:
    tables = document.all("table")
    assert len(tables) == 14  # 2 x (board, published, beside, cost), mean ranks, 2 of tuning, models, times, runs
    for table in tables:
        assert len(document.inside(table, "caption")) == 1
        (head,) = document.inside(table, "thead")
        headings = document.inside(head, "th")
        assert [heading["scope"] for heading in headings] == ["col"] * len(headings)
        assert len(document.inside(head, "button")) == len(headings)
        (body,) = document.inside(table, "tbody")
        for row in document.inside(body, "tr"):
            assert [cell["scope"] for cell in document.inside(row, "th")] == ["row"]


def test_headings_never_skip_a_level(document: Document) -> None:
    levels = [int(element["tag"][1]) for element in document.elements if re.fullmatch("h[1-6]", element["tag"])]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_fields_have_labels_and_pictures_have_texts(document: Document) -> None:
    for field in document.all("select") + document.all("input"):
        label = document.elements[field["around"]]
        assert label["tag"] == "label"
        assert label["text"].strip()
    pictures = document.all("img")
    assert len(pictures) == 3
    assert all(picture["alt"] for picture in pictures)
    assert {picture["width"] for picture in pictures} == {"480"}  # 360 pt


# --- nothing from data runs, nothing is loaded


def test_hostile_text_is_only_text(document: Document, text: str) -> None:
    assert [script.get("id", "") for script in document.all("script")] == ["", "data", "", ""]
    assert not [name for element in document.elements for name in element if name.startswith("on")]
    assert [
        element for element in document.all("img") if not element["src"].startswith("data:image/svg+xml;base64,")
    ] == []
    assert text.count("</script") == text.count("<script") == len(document.all("script"))
    assert "window.pwned=1" in words(document.rows(f"{CORA}-board")[-3]["instruction"])
    assert "{{7*7}}" in text  # not 49: data is no template
    assert "\u202e" not in text
    assert "\u2028" not in text
    assert "\x07" not in text


def test_the_policy_lets_in_the_page_s_own_styles_and_scripts_alone(document: Document) -> None:
    (meta,) = document.all("meta", **{"http-equiv": "Content-Security-Policy"})
    policy = {name: values for name, *values in (part.split() for part in meta["content"].split(";"))}
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == ["'none'"]
    assert policy["img-src"] == ["data:"]

    def hashes(elements: list[Element]) -> list[str]:
        digests = (hashlib.sha256(element["text"].encode()).digest() for element in elements)
        return [f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests]

    assert policy["style-src"] == hashes(document.all("style"))
    assert policy["script-src"] == hashes([script for script in document.all("script") if "type" not in script])
    assert not [element for element in document.elements if "style" in element]


def test_nothing_is_loaded(document: Document) -> None:
    for element in document.elements:
        assert "src" not in element or element["src"].startswith("data:")
        assert "srcset" not in element
        assert element["tag"] not in ("link", "iframe", "object", "embed", "base", "form action")
        href = element.get("href", "#")
        assert href.startswith("#") or href in ("leaderboard.csv", "runs.csv", "leaderboard.md")
    for style in document.all("style"):
        assert "url(" not in style["text"]
        assert "@import" not in style["text"]


@pytest.mark.parametrize("value", ["</script>", "<!--", "a&b", "\u2028\u2029", '"\\'])
def test_data_is_safe_in_a_script_and_the_same_json(value: str) -> None:
    text = str(templates.data([value]))
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == [value]


def test_data_has_no_nan() -> None:
    with pytest.raises(ValueError, match="JSON"):
        templates.data(math.nan)


def test_an_unknown_name_in_a_template_is_an_error() -> None:
    with pytest.raises(Exception, match="nothing"):
        templates.environment().from_string("{{ nothing }}").render()


def test_another_page_has_the_same_shell(tmp_path: Path) -> None:
    (tmp_path / "other.html").write_text(
        '{% extends "shell.html" %}{% block title %}{{ name }}{% endblock %}{% block main %}{{ name }}{% endblock %}'
    )
    other = Document(templates.environment(tmp_path).get_template("other.html").render(name="a<b"))
    assert [title["text"] for title in other.all("title")] == ["a<b"]
    assert len(other.all("style")) == 1


# --- the same report is the same page


def test_the_same_report_gives_the_same_text(text: str, tmp_path: Path) -> None:
    again = reported.example(tmp_path)
    assert html(again, reported.plots()) == text


def test_the_order_of_runs_details_and_plots_does_not_show(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shuffled = reported.runs().sample(frac=1, random_state=0)
    monkeypatch.setattr(reported, "runs", lambda: shuffled)
    assert html(reported.example(tmp_path), reported.plots()[::-1]) == text


# --- what it says


def test_the_board(document: Document) -> None:
    board = {(words(row["backbone"]), words(row["llm"])): row for row in document.rows(f"{CORA}-board")}
    best = board["stage", "minilm"]
    assert words(best["rank"]).startswith("1 (1–")
    assert words(best["test_accuracy"]).startswith("0.8975 ± 0.0062")
    assert words(best["p"]) == "best"
    assert [span["class"] for span in document.inside(best["test_accuracy"], "span")] == ["m best"]
    assert words(board["gcn", "minilm"]["rank"]).split()[0] == words(board["gcn2", "minilm"]["rank"]).split()[0] == "3"
    partial = board["revgat", "minilm"]
    assert words(partial["rank"]) == ""
    assert words(partial["status"]).startswith("partial")
    assert words(partial["test_accuracy"]) == "0.8960 ± 0.0042 partial"
    failed = board["sign(s=4,p=2,t=1)", "minilm"]
    assert [words(failed[column]) for column in ("rank", "test_accuracy", "p")] == ["", "failed", ""]
    assert words(failed["status"]).startswith("failed")
    assert words(board["gcn", ""]["features"]) == "tf-idf"


def test_rows_that_cannot_be_separated_are_underlined(example: report.Report, document: Document) -> None:
    tied = {key[5] for key, found in example.separations.items() if key[0] == "cora" and found.separable is False}
    styles = {
        words(row["backbone"]): [span["class"] for span in document.inside(row["test_accuracy"], "span")]
        for row in document.rows(f"{CORA}-board")
    }
    assert tied
    assert {backbone for backbone, found in styles.items() if found == ["m tied"]} == tied
    assert "not separable" in words(document.rows(f"{CORA}-board")[1]["p"])


def test_published_rows_are_marked_and_never_ranked(document: Document) -> None:
    suspect, *others = document.rows(f"{CORA}-published")
    assert "rank" not in suspect
    assert words(suspect["test_accuracy"]).startswith("0.9290 † suspect")
    assert words(suspect["evidence"]) == "secondary"
    assert words(suspect["source"]) == "main table, transcribed"
    (note,) = [link for link in document.inside(suspect["test_accuracy"], "a") if "href" in link]
    assert "scored on another split" in document.all("li", id=note["href"][1:])[0]["text"]
    assert ["suspect" in words(row["test_accuracy"]) for row in others] == [False, False]


def test_published_beside_ours(example: report.Report, document: Document) -> None:
    found = {words(row["backbone"]): row for row in document.rows(f"{CORA}-beside")}
    assert set(found) == {one.ours["backbone"] for one in example.reproductions if one.ours["dataset"] == "cora"}
    assert words(found["gcn"]["difference"]) == "−0.0010"
    assert words(found["gcn"]["verdict"]) == "agrees"


def test_costs(document: Document) -> None:
    cost = {(words(row["backbone"]), words(row["llm"])): row for row in document.rows(f"{CORA}-cost")}
    assert words(cost["gcn", ""]["time_rank"]) == "1"
    assert words(cost["gcn", "minilm"]["joules"]) == "4.75"
    assert words(cost["sage", "minilm"]["joules"]) == "not measured"
    other = cost["gcn", "e5-base"]
    assert words(other["time_rank"]) == ""
    assert "another class" in words(other["hardware"])
    assert words(cost["stage", "minilm"]["front"]) == "◆ time and memory"
    assert ("sign(s=4,p=2,t=1)", "minilm") not in cost
    assert "answer_seconds" not in other, "no row has one"


def test_what_goes_over_all_datasets(document: Document, text: str) -> None:
    assert words(document.rows("mean-ranks-table")[0]["backbone"]) == "stage"
    assert [words(row["winner"]) for row in document.rows("tuning-winners")] == ["0.8500", "0.8500"]
    assert [words(row["after-4"]) for row in document.rows("tuning-trajectories")] == ["0.8500", "0.8500"]
    assert "Budgets differ" in text
    assert words(document.rows("models-table")[0]["trained_on"]) == "not known"
    assert words(document.rows("times-table")[0]["seconds"]).startswith("26.8 †")
    headings = [words(heading) for heading in document.all("h2")]
    assert "How to read this" in headings
    assert "Provenance" in headings


def test_counts_and_remarks(document: Document, text: str) -> None:
    terms = {words(term): words(document.elements[document.elements.index(term) + 1]) for term in document.all("dt")}
    assert (terms["runs"], terms["finished"], terms["failed"], terms["not there yet"]) == ("46", "43", "2", "1")
    assert "To be noted" in text
    assert "A selection" not in text


def test_a_selection_is_said(tmp_path: Path) -> None:
    assert "<b>A selection of a larger report:</b> backbone gcn" in html(
        reported.example(tmp_path, selection="backbone gcn")
    )


def test_filters_offer_what_is_there(document: Document) -> None:
    offered = {
        select["name"]: [words(option) for option in document.inside(select, "option")]
        for select in document.all("select")
    }
    assert offered["dataset"] == ["all", "arxiv", "cora"]
    assert offered["llm"] == ["all", "e5-base", "microsoft/deberta-base", "minilm"]
    assert offered["origin"] == ["all", "reproduced", "published"]
    assert reported.HOSTILE_BACKBONE in offered["backbone"]


def test_sentences_keep_bold_and_emphasis() -> None:
    assert inline("**a<b** and *c*: 2 < 3") == "<b>a&lt;b</b> and <em>c</em>: 2 &lt; 3"


# --- the data for the script


def unpacked(column: dict[str, Any], length: int) -> list[Any]:
    if "each" in column:
        return list(column["each"])
    return [column["of"][place] for place in column["at"]] if "of" in column else [column["all"]] * length


def test_runs_are_held_by_column(example: report.Report, document: Document) -> None:
    data = document.data()
    runs, keys = data["runs"], data["keys"]
    assert unpacked(runs["columns"]["id"], runs["length"]) == example.runs["id"].tolist()
    for name in ("test_accuracy", "train_seconds", "peak_memory_mb"):
        expected = [None if math.isnan(value) else value for value in example.runs[name]]
        assert unpacked(runs["columns"][name], runs["length"]) == expected
    seeds = unpacked(runs["columns"]["split_seed"], runs["length"])
    assert seeds == rows.plain_cells(example.runs["split_seed"])
    key = unpacked(runs["columns"]["key"], runs["length"])
    for name in rows.KEY:
        values = unpacked(keys["columns"][name], keys["length"])
        plain = [
            value if value not in (reported.HOSTILE, reported.HOSTILE_BACKBONE) else None
            for value in example.runs[name]
        ]
        assert [None if want is None else values[place] for place, want in zip(key, plain, strict=True)] == plain


def test_errors_keep_their_lines(document: Document) -> None:
    runs = document.data()["runs"]
    (error,) = [value for value in unpacked(runs["columns"]["error"], runs["length"]) if "out of memory" in value]
    assert error.splitlines()[-2:] == ["Traceback (most recent call last):", "in train"]


def test_details_hold_shared_values_once(document: Document) -> None:
    details = document.data()["details"]
    one, other = details["runs"]["gcn-0"], details["runs"]["gcn-1"]
    assert one["configuration"] == other["configuration"]
    shared = details["shared"]
    assert shared[one["configuration"]["backbone"]] == {
        **{"name": "gcn", "hidden": 128, "dropout": 0.5, "norm": None, "residual": True}
    }
    assert shared[one["configuration"]["training"]]["seed"] == str(2**60), "JavaScript cannot count so far"
    assert shared[one["environment"]["versions"]]["torch"] == "2.13.0"
    assert one["curve"] == [*reported.CURVE[:3], None, *reported.CURVE[3:]]
    assert details["runs"]["stage-0"]["weights"]["gcn-0"] == pytest.approx(1 / 3, abs=1e-6)
    assert "mlp-3" not in details["runs"]


def test_an_opened_row_says_how_it_compares(document: Document) -> None:
    data = document.data()
    board = document.rows(f"{CORA}-board")
    (outer,) = document.all("table", id=f"{CORA}-board")
    places = [int(row["data-row"]) for row in document.inside(outer, "tr") if "data-row" in row]
    assert len(places) == len(board)
    first, second = (dict(data["facts"][place]) for place in places[:2])
    assert first["Against the best"].startswith("The best row of this table")
    assert re.match(r"0\.0070 below the best; p = 0\.\d+ \(.* after Holm\); corrected", second["Against the best"])
    assert second["Against the best"].endswith("not separable from the best.")


# --- large and empty reports


def test_of_many_rows_the_first_are_in_the_document_and_the_others_in_the_data() -> None:
    large = Document(html(reported.huge(backbones=210, datasets=1, seeds=10)))
    board = "on-data-0.random-60-20-20-board"
    assert len(large.rows(board)) == 200
    data = large.data()
    assert len(data["tables"][board]) == 10
    name, key, style, cells = data["tables"][board][0]
    assert (cells[1], style) == (name.split(", ")[0], "")
    assert 0 <= key < 210
    assert "200 of 210 rows; all of them are in leaderboard.csv." in [words(line) for line in large.all("p")]
    assert len(large.rows("runs-table")) == 200
    assert data["runs"]["length"] == 2100
    assert data["details"] == {"shared": [], "runs": {}}
    assert any("this page holds no configurations" in line["text"] for line in large.all("p"))


def test_details_stay_out_above_a_number_of_runs(
    example: report.Report, monkeypatch: pytest.MonkeyPatch, document: Document
) -> None:
    assert len(document.data()["details"]["runs"]) == 44
    monkeypatch.setattr(run_data, "DETAILED_RUNS", len(example.runs) - 1)
    assert Document(html(example)).data()["details"]["runs"] == {}


def test_a_report_without_runs() -> None:
    empty = report.make(report.Facts(suite="none"), reported.runs().head(0))
    document = Document(html(empty))
    assert "No runs yet." in [words(line) for line in document.all("p")]
    assert document.data()["runs"]["length"] == 0
    assert document.all("table") == []


def test_a_heavy_page_lays_out_what_is_in_sight(example: report.Report, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "class" not in Document(html(example)).all("main")[0]
    monkeypatch.setattr(page, "_HEAVY", 10)
    assert Document(html(example)).all("main")[0]["class"] == "heavy"
