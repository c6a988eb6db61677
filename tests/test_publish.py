"""`publish`: a site of several reports, its links, its cards, and what becomes of the folder."""

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import boards
from stage_bench.checks import Line
from stage_bench.errors import StageBenchError
from stage_bench.execution import publishing
from stage_bench.leaderboard import writing
from stage_bench.leaderboard.site import cards, citing, copying, finding, layout, placing, publication
from stage_bench.leaderboard.site.boards import Board
from test_cli import heavy
from test_submission import runs, sound

PROGRAM = {"version": "0.1.0", "commit": "0123456789abcdef"}
BREAKS_OUT = "</script><script>alert(1)</script>"


def board(*given: dict[str, object], draft: bool = False, source: Path = Path("here"), **facts: Any) -> Board:
    """A board without a folder."""
    report = boards.made(*(given or sound()), **facts)
    lines = [Line("all is well"), *([Line(f"`this` is <b>wrong</b> {BREAKS_OUT}", False)] if draft else [])]
    files = {"runs.csv": b"id\n", "index.html": b"<!DOCTYPE html>\n", "plots/cora.svg": b"<svg/>"}
    return Board(source=source, report=report, lines=lines, files=files, draft=draft)


def describe(kind: str, name: str) -> dict[str, Any] | None:
    """What a registry knows; it does not know all models."""
    known: dict[tuple[str, str], dict[str, Any]] = {
        ("llm", "minilm"): {
            "name": "minilm",
            "summary": "small & fast",
            "hub_id": "sentence-transformers/all-MiniLM-L6-v2",
            "revision": "abc123",
            "dimension": 384,
            "parameters": 22_713_216,
            "pooling": "mean",
            "normalize": True,
            "prompt": "Instruct: {instruction}\nQuery: {text}",
            "plain_prompt": "{text}",
            "max_length": 256,
            "dtype": "float32",
            "released": "2021-08",
            "price": 0.02,
            "remote_code": True,
        },
        ("backbone", "gcn"): {
            "name": "gcn",
            "summary": "Graph convolutional network",
            "paper": "arXiv 1609.02907",
            "family": "message passing",
            "reads": "features",
            "needs_edges": True,
            "version": 1,
            "of the model": ["num_layers = 2: Layers: at least one", "hidden = 128"],
        },
    }
    return known.get((kind, name))


def files_of(*given: Board) -> dict[str, bytes]:
    return publication.files(given or [board()], describe, PROGRAM)


class Page(HTMLParser):
    """What a page links to, loads and has: links, sources, ids, text."""

    LOADS = ("src", "srcset", "data", "poster", "action", "formaction", "background")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            assert not name.startswith("on"), "no code in attributes"
            if name == "href":
                (self.links if tag == "a" else self.loads).append(value or "")
            elif name in self.LOADS:
                self.loads.append(value or "")
            elif name == "id":
                self.ids.append(value or "")

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def pages(files: Mapping[str, bytes]) -> Iterator[tuple[str, Page]]:
    """The pages that a site makes itself."""
    for path, content in files.items():
        if path == "index.html" or path.startswith("models/"):
            yield path, Page(content.decode())


def check_links(files: Mapping[str, bytes]) -> int:
    """Every link leads to a file of the site or a place of its page, or says http; nothing is loaded."""
    count = 0
    for path, page in pages(files):
        assert page.loads == [], path
        assert len(set(page.ids)) == len(page.ids), path
        for link in page.links:
            target, _, place = link.partition("#")
            if target.startswith("https://"):
                assert target.startswith(("https://arxiv.org/abs/", "https://huggingface.co/")), link
                continue
            assert not target.startswith(("/", "http", "javascript", "data", "file")), link
            found = os.path.normpath(os.path.join(os.path.dirname(path), target)) if target else path
            assert found in files or found == layout.MANIFEST, f"{path}: {link}"
            if place:
                assert place in Page(files[found].decode()).ids, f"{path}: {link}"
            count += 1
    return count


def test_all_links_lead_somewhere():
    files = files_of(board(), board(*boards.example().to_dict("records"), suite="other", draft=True))
    assert check_links(files) > 30


def test_the_index_says_what_there_is():
    numbered = board(suite="other", description="Rows & more.", draft=True)
    files = files_of(board(), numbered)
    text = Page(files["index.html"].decode()).text
    for words in (
        "golden",
        "Rows & more.",
        "0.8850 ± 0.0129",
        "gcn, zero-shot · minilm, default",
        "8 , 4 seeds a row".replace(" ,", ","),
        "2 CPU cores",
        "stage-bench 0.1.0 at abc1234",
        "1 checks passed",
        "1 of 2 checks failed",
        "Drafts : other",
        "@software{stage-bench, title = {{stage-bench}: node classification on text-attributed graphs}",
        "eprint = {2407.12860}",
        "note = {commit 0123456789abcdef}",
        "stage-bench 0.1.0 at 0123456789ab",
    ):
        assert words in text, words
    assert b"alert(1)</script>" not in files["index.html"], "what a check says is text"
    assert "<code>this</code> is &lt;b&gt;wrong" in files["index.html"].decode()


def test_the_same_boards_give_the_same_bytes():
    one, other = board(), board(*runs("sage", [0.5, 0.6, 0.7, 0.8]), suite="other")
    assert files_of(one, other) == files_of(other, one) == files_of(board(), other)
    assert citing.bibtex({}) == citing.bibtex({"version": "", "commit": ""})
    assert "version" not in citing.bibtex({})


def test_a_card_says_what_is_known():
    files = files_of()
    assert [path for path in files if path.startswith("models/")] == [
        "models/llm-minilm.html",
        "models/backbone-gcn.html",
        "models/backbone-mlp.html",
    ]
    page = Page(files["models/llm-minilm.html"].decode())
    assert "https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2/tree/abc123" in page.links
    assert page.links.count("../golden/index.html") == 2
    for words in ("small & fast", "384", "22,713,216", "256 tokens", "Prompt without instruction", "0.02 US dollars"):
        assert words in page.text
    for words in ("Licence not known", "must run, and does so only if", "0.8850 ± 0.0129", "1 of 2", "2 CPU cores"):
        assert words in page.text
    page = Page(files["models/backbone-gcn.html"].decode())
    assert "https://arxiv.org/abs/1609.02907" in page.links
    for words in ("message passing", "num_layers 2 Layers: at least one", "hidden 128"):
        assert words in page.text
    unknown = Page(files["models/backbone-mlp.html"].decode()).text
    assert "does not know this model" in unknown
    assert "0.8250 ± 0.0129" in unknown


@pytest.mark.parametrize(
    ("label", "names"),
    [
        ("minilm", ["minilm"]),
        ("minilm(pca=64)+bge-m3", ["minilm", "bge-m3"]),
        ("a(path=/x+y)+a", ["a"]),
        ("", []),
        (None, []),
        ("+()", []),
    ],
)
def test_models_that_a_label_names(label: str | None, names: list[str]):
    assert cards.llms(label) == names


def test_which_backbones_have_a_card():
    several = board(
        *runs("gcn(hidden=64)", [0.5, 0.6, 0.7, 0.8]),
        *runs("stage", [0.5, 0.6, 0.7, 0.8], kind="ensemble"),
        *runs("gcn", [0.6, 0.6, 0.7, 0.8], kind="ensemble", features="a+b"),
        *runs("mine", [0.6, 0.6, 0.7, 0.8], llm="", embedding_id=""),
    )
    found = cards.make([several], describe)
    assert [(card.kind, card.name, card.known, len(card.results)) for card in found] == [
        ("llm", "minilm", True, 3),
        ("backbone", "gcn", True, 2),
        ("backbone", "mine", False, 1),
    ], "an ensemble has none, unless it is of one backbone and has its name"
    text = Page(files_of(several)["models/backbone-gcn.html"].decode()).text
    assert "gcn(hidden=64)" in text
    assert "gcn ensemble" in text


def test_a_card_with_many_results_has_a_filter():
    few, many = (
        board(*(run for place in range(count) for run in runs(f"gcn(k={place})", [0.5, 0.6, 0.7, 0.8])))
        for count in (3, 210)
    )
    assert "form" not in Page(files_of(few)["models/backbone-gcn.html"].decode()).tags
    page = Page(files_of(many)["models/backbone-gcn.html"].decode())
    assert "form" in page.tags
    assert "200 of 210 rows" in page.text
    assert json.loads(page.texts[page.texts.index(next(t for t in page.texts if t.startswith('{"results"')))])


def test_hostile_names_are_only_text():
    hostile = [
        {**run, "llm": "<img src=x onerror=alert(1)>", "features": BREAKS_OUT, "hardware": "\x1b[31m<b>"}
        for run in runs("../../x", [0.5, 0.6, 0.7, 0.8])
    ]
    files = files_of(board(*hostile, suite="../x", description=BREAKS_OUT, draft=True))
    check_links(files)
    for path, page in pages(files):
        assert "img" not in page.tags
        assert page.tags.count("script") == 4, path
        assert b"alert(1)</script>" not in files[path]
        assert "\x1b" not in page.text
    for path in files:
        assert layout.is_own(path)
        assert not os.path.normpath(path).startswith((".." + os.sep, os.sep))
    assert "../x" in Page(files["index.html"].decode()).text


def test_where_things_lie():
    assert layout.board("tape-cora") == "tape-cora"
    assert layout.board("models") == "models-board"
    assert layout.board("Models") == "Models-board"
    assert layout.board("site.json") == "site.json-board"
    assert layout.board("../x").startswith("x-")
    assert len(set(layout.cards("llm", ["A", "a", "b"]).values())) == 3
    assert len({path.casefold() for path in layout.cards("llm", ["A", "a", "b"]).values()}) == 3
    assert layout.cards("llm", ["minilm"]) == {"minilm": "models/llm-minilm.html"}
    for path in ("index.html", "site.json", ".nojekyll", "cora/runs.csv", "cora/plots/x.svg", "models/llm-a.html"):
        assert layout.is_own(path), path
    for path in (
        *(
            "../index.html",
            "/index.html",
            "cora/../index.html",
            ".git/index.html",
            "cora",
            "cora/x.txt",
            "models/a/b.html",
        ),
        *(
            "cora/plots/x.js",
            "cora/plots/a/x.svg",
            "a\\..\\index.html",
            "README.md",
            "",
            "./index.html",
            "cora//runs.csv",
        ),
    ):
        assert not layout.is_own(path), path


def test_two_boards_of_one_name_are_refused():
    for name in ("golden", "Golden"):
        with pytest.raises(StageBenchError, match="a/x and b/y are both boards of"):
            files_of(board(source=Path("b/y"), suite=name), board(source=Path("a/x")))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of reports: `good` and `better`, which pass, and `bad`, of three seeds."""
    folder = tmp_path_factory.mktemp("written")
    writing.write(folder / "good", boards.made(*sound(), suite="good"))
    writing.write(folder / "better", boards.made(*runs("sage", [0.9, 0.91, 0.92, 0.93]), suite="better"))
    writing.write(folder / "bad", boards.made(*runs("gcn", [0.5, 0.6, 0.7]), suite="bad"))
    (folder / "README.md").write_text("Reports")
    return folder


@pytest.fixture
def reports(written: Path, tmp_path: Path) -> Path:
    shutil.copytree(written, tmp_path / "reports")
    return tmp_path / "reports"


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_passes_is_published_to_the_byte(reports: Path, tmp_path: Path):
    outcome = publishing.publish([reports], tmp_path / "site")
    assert [found.name for found in outcome.boards] == ["better", "good"]
    (refused,) = outcome.refused
    assert refused.folder == reports / "bad"
    files = tree(tmp_path / "site")
    assert check_links(files) > 20
    for name in ("good", "better"):
        report = {f"{name}/{path}": content for path, content in tree(reports / name).items()}
        assert {path: content for path, content in files.items() if path.startswith(f"{name}/")} == report
    assert not any(path.startswith("bad/") for path in files)
    assert sorted(files) == sorted(path.relative_to(tmp_path / "site").as_posix() for path in outcome.written)
    assert outcome.written[-2:] == [tmp_path / "site" / "index.html", tmp_path / "site" / "site.json"]
    manifest = json.loads(files["site.json"])
    assert [found["name"] for found in manifest["boards"]] == ["better", "good"]
    assert manifest["files"] == {
        path: hashlib.sha256(content).hexdigest() for path, content in sorted(files.items()) if path != "site.json"
    }
    assert str(tmp_path).encode() not in b"".join(files[path] for path, _ in pages(files)) + files["site.json"]
    assert stat.S_IMODE((tmp_path / "site").stat().st_mode) == 0o755
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    minilm = Page(files["models/llm-minilm.html"].decode()).text
    assert "sentence-transformers/all-MiniLM-L6-v2" in minilm, "what the registry knows"
    assert "learning rate" in Page(files["models/backbone-gcn.html"].decode()).text


def test_a_draft_is_marked(reports: Path, tmp_path: Path):
    (reports / "bad" / "index.html").unlink()
    outcome = publishing.publish([reports], tmp_path / "site", draft=True)
    assert outcome.refused == []
    files = tree(tmp_path / "site")
    check_links(files)
    page = Page(files["index.html"].decode())
    assert "Drafts : bad" in page.text
    assert "fewer than 4" in page.text
    assert "files: index.html is not there" in page.text
    assert "bad/leaderboard.csv" in page.links
    assert [found["draft"] for found in json.loads(files["site.json"])["boards"]] == [True, False, False]


def test_what_cannot_be_read_is_no_draft_either(reports: Path, tmp_path: Path):
    (reports / "bad" / "runs.csv").write_text("id\n")
    outcome = publishing.publish([reports / "bad"], tmp_path / "site", draft=True)
    assert (outcome.boards, outcome.written) == ([], [])
    assert not (tmp_path / "site").exists(), "nothing to publish, nothing written"


def test_publishing_again(reports: Path, tmp_path: Path):
    to = tmp_path / "site"
    publishing.publish([reports], to)
    before = tree(to)
    times = {path: (to / path).stat().st_mtime_ns for path in before}
    publishing.publish([reports / "good", reports / "better", reports], to)
    assert tree(to) == before
    assert {path: (to / path).stat().st_mtime_ns for path in before if path != "site.json"} == {
        path: time for path, time in times.items() if path != "site.json"
    }, "what is the same is left alone"
    (to / "CNAME").write_text("example.org")
    (to / "good" / "mine.txt").write_text("kept")
    (to / "models" / "llm-minilm.html").write_text("edited")
    outcome = publishing.publish([reports / "better"], to)
    assert to / "good" / "runs.csv" in outcome.gone
    assert to / "models" / "backbone-gcn.html" in outcome.gone
    after = tree(to)
    assert after["CNAME"] == b"example.org"
    assert after["good/mine.txt"] == b"kept"
    assert not (to / "good" / "plots").exists(), "empty folders go"
    assert b"edited" not in after["models/llm-minilm.html"]
    check_links({path: content for path, content in after.items() if not path.startswith("good/")})
    fresh = tmp_path / "fresh"
    publishing.publish([reports / "better"], fresh)
    assert {path: content for path, content in after.items() if path not in ("CNAME", "good/mine.txt")} == tree(fresh)


def test_an_empty_folder_will_do(reports: Path, tmp_path: Path):
    site = tmp_path / "site"
    site.mkdir()
    (site / ".git").write_text("gitdir: elsewhere")
    publishing.publish([reports / "good"], site)
    assert (site / "index.html").is_file()
    assert (site / ".git").read_text() == "gitdir: elsewhere"


def test_a_folder_of_somebody_else_is_refused(reports: Path, tmp_path: Path):
    to = tmp_path / "site"
    to.mkdir()
    (to / "thesis.tex").write_text("do not touch")
    with pytest.raises(StageBenchError, match=r"no site\.json says that this is a site; choose an empty folder"):
        publishing.publish([reports], to)
    with pytest.raises(StageBenchError, match="choose an empty folder"):
        publishing.publish([reports], reports)
    for content in (
        "{",
        "[]",
        '{"schema_version": 1, "files": ["../thesis.tex"]}',
        '{"schema_version": 9, "files": []}',
    ):
        (to / "site.json").write_text(content)
        with pytest.raises(StageBenchError, match=r"site\.json: (cannot be read|names|version)"):
            publishing.publish([reports], to)
    assert tree(to) == {"thesis.tex": b"do not touch", "site.json": content.encode()}
    with pytest.raises(StageBenchError, match="is not a folder"):
        publishing.publish([reports], to / "thesis.tex")


def test_what_is_in_the_way_is_named(reports: Path, tmp_path: Path):
    to, outside = tmp_path / "site", tmp_path / "outside"
    publishing.publish([reports / "good"], to)
    outside.mkdir()
    (to / "better").symlink_to(outside)
    with pytest.raises(StageBenchError, match="better is in the way: it is no folder of the site"):
        publishing.publish([reports], to)
    (to / "better").unlink()
    (to / "better").mkdir()
    (to / "better" / "runs.csv").write_text("mine")
    with pytest.raises(StageBenchError, match=r"better/runs\.csv is in the way: no earlier `publish` put it there"):
        publishing.publish([reports], to)
    (to / "better" / "runs.csv").unlink()
    shutil.move(to / "good", outside / "good")
    (to / "good").symlink_to(outside / "good")
    with pytest.raises(StageBenchError, match="good is in the way"):
        publishing.publish([reports / "better"], to)
    assert (outside / "good" / "runs.csv").is_file(), "nothing behind a link is deleted"


def test_a_report_inside_the_site_is_refused(reports: Path, tmp_path: Path):
    to = tmp_path / "site"
    publishing.publish([reports / "good"], to)
    with pytest.raises(StageBenchError, match=r"the report .*good lies in it; choose a folder beside the reports"):
        publishing.publish([to / "good"], to)
    other = tmp_path / "other"
    publishing.publish([to], other)
    assert tree(other) == tree(to), "a site is a folder of reports too"


def test_interrupted_it_can_be_done_again(reports: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    to, calls = tmp_path / "site", iter(range(100))
    publishing.publish([reports / "good"], to)

    def full(path: Path, data: bytes) -> None:
        if next(calls) > 6:
            raise OSError("disk full")
        real(path, data)

    real = placing.write_bytes
    monkeypatch.setattr(placing, "write_bytes", full)
    index = (to / "index.html").read_bytes()
    with pytest.raises(OSError, match="disk full"):
        publishing.publish([reports], to)
    assert (to / "index.html").read_bytes() == index, "it is written last"
    new = tmp_path / "new"
    with pytest.raises(OSError, match="disk full"):
        publishing.publish([reports], new)
    assert not new.exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    monkeypatch.undo()
    publishing.publish([reports], to)
    publishing.publish([reports], new)
    assert tree(to) == tree(new)


def test_links_in_a_report_are_not_followed(reports: Path, tmp_path: Path):
    secret = tmp_path / "secret.svg"
    secret.write_text("secret")
    good = reports / "good"
    (good / "plots" / "a.svg").symlink_to(secret)
    (good / "leaderboard.tex").unlink()
    (good / "leaderboard.tex").symlink_to(secret)
    (good / "notes.txt").write_text("not of the report")
    (good / "plots" / "x.html").write_text("not a plot")
    found = copying.read(good)
    assert b"secret" not in b"".join(found.values())
    assert "leaderboard.tex" not in found
    assert not {"notes.txt", "plots/x.html", "plots/a.svg"} & set(found)
    (good / "plots").rename(tmp_path / "plots")
    (good / "plots").symlink_to(tmp_path / "plots")
    assert not any(name.startswith("plots/") for name in copying.read(good))
    (reports / "linked").symlink_to(reports / "better")
    folders, remarks = finding.find([reports])
    assert [folder.name for folder in folders] == ["bad", "better", "good"]
    assert remarks == [f"{reports / 'linked'} is a symbolic link and is not followed; name it to publish it"]
    assert finding.find([reports / "linked"]) == ([reports / "linked"], [])


def test_where_there_is_no_report(tmp_path: Path):
    for path, problem in ((tmp_path / "nope", "there is no such folder"), (tmp_path, "neither a report")):
        with pytest.raises(StageBenchError, match=problem):
            finding.find([path])


def test_publishing_imports_no_torch(reports: Path, tmp_path: Path):
    assert not {"torch", "dgl", "transformers", "sklearn"} & set(heavy("publish", reports, "--to", tmp_path / "site"))
    assert not {"torch", "dgl", "transformers", "sklearn"} & set(heavy("check", "report", reports / "good"))


def test_the_command(stage_bench: Callable[..., tuple[int, str, str]], reports: Path, tmp_path: Path):
    code, out, err = stage_bench("publish", reports, "--to", tmp_path / "site")
    assert (code, err) == (1, "")
    lines = out.splitlines()
    assert f"{reports / 'good'}: published, 14 checks passed" in lines
    place = lines.index(f"{reports / 'bad'}: not published")
    assert lines[place + 1].startswith("FAIL  seeds: 1 of 1 complete row has fewer than 4")
    assert lines[-1] == str(tmp_path / "site" / "site.json")
    code, out, err = stage_bench("publish", reports, "--to", tmp_path / "site", "--draft", "--json")
    assert (code, err) == (0, "")
    said = json.loads(out)
    assert [(Path(one["report"]).name, one["board"], one["draft"]) for one in said["reports"]] == [
        ("bad", "bad", True),
        ("better", "better", False),
        ("good", "good", False),
    ]
    assert [check["passed"] for check in said["reports"][1]["checks"]] == [True] * 14
    assert str(tmp_path / "site" / "index.html") in said["files"]
    code, out, err = stage_bench("publish", reports / "bad", "--to", tmp_path / "site", "--json")
    assert code == 1
    assert json.loads(out)["files"] == []
    assert (tmp_path / "site" / "good").is_dir(), "nothing to publish: the site stays as it is"
    code, out, err = stage_bench("publish", reports, "--to", reports)
    assert (code, out) == (2, "")
    assert err.startswith("error: --to ")
    assert err.count("\n") == 1
