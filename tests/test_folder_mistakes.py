"""One line, with file and line, for every mistake in a folder dataset."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from stage_bench.datasets import folder
from stage_bench.datasets.folder import DatasetMissing
from stage_bench.errors import StageBenchError

TEXT = "text: '{t}'\n"
ROWS = [{"t": f"text {node}", "label": "ab"[node % 2]} for node in range(6)]

Folder = Callable[..., Path]


def problem(path: Path) -> str:
    """What `load` says, without the folder's own path."""
    with pytest.raises(StageBenchError) as caught:
        folder.load(path)
    said = str(caught.value)
    assert "\n" not in said
    assert said.startswith(str(path))
    return said.removeprefix(str(path)).removeprefix("/")


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ("src,dst\n0,1\n0,6\n", "edges.csv:3: the edge names node 6, which does not exist: the nodes are 0 to 5"),
        ("src,dst\n-1,1\n", "edges.csv:2: the edge names node -1, which does not exist: the nodes are 0 to 5"),
        ("src,dst\n0,1\nx,1\n", "edges.csv:3: src 'x' is not a row number of a node"),
        ("src,dst\n0,1.5\n", "edges.csv:2: dst '1.5' is not a row number of a node"),
        ("src,dst\n0,\n", "edges.csv:2: dst '' is not a row number of a node"),
        ("src,dst\n0,nan\n", "edges.csv:2: dst 'nan' is not a row number of a node"),
        ("from,to\n0,1\n", "edges.csv:1: column 'src' is missing (the header is `src,dst`)"),
        ("0,1\n1,2\n", "edges.csv:1: column 'src' is missing (the header is `src,dst`)"),
        ("src,target\n0,1\n", "edges.csv:1: column 'dst' is missing (the header is `src,dst`)"),
        ("src,dst\n0,1,0.5\n1,2,0.5\n", "edges.csv:2: the row has more cells than the header"),
    ],
)
def test_wrong_edges(raw_folder: Folder, edges: str, message: str):
    assert problem(raw_folder(edges=edges)) == message


@pytest.mark.parametrize(("edges", "message"), [("", "No columns"), ("src,dst\n0,1\n1,2,3\n", "in line 3, saw 3")])
def test_edges_that_are_no_table(raw_folder: Folder, edges: str, message: str):
    said = problem(raw_folder(edges=edges))
    assert said.startswith("edges.csv: not a CSV file: ")
    assert message in said


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ('{"t": "x", "label": 1}\n{"t": \n', r"nodes\.jsonl:2: not a JSON object: .*"),
        ('{"t": "x", "label": 1}\n["x"]\n', r"nodes\.jsonl:2: not a JSON object"),
        (
            '{"t": "x", "label": 1}\n\n{"t": "y", "label": 2}\n',
            r"nodes\.jsonl:2: an empty line; row number is node id.*",
        ),
        (
            b'{"t": "x", "label": 1}\n{"t": "\xff"}\n',
            r"nodes\.jsonl:2: not a JSON object: 'utf-8' codec can't decode.*",
        ),
        ("[" * 100_000, r"nodes\.jsonl:1: not a JSON object: .*"),
        ("", r"nodes\.jsonl: holds no nodes"),
        ([{"t": "x"}, {"t": "y"}], r"nodes\.jsonl: no node has a label \(column 'label'\)"),
        ([{"t": "x", "label": ""}] * 3, r"nodes\.jsonl: no node has a label \(column 'label'\)"),
        ([{"t": "x", "label": 4}] * 3, r"nodes\.jsonl: all labels are '4'; a classification needs two classes"),
        ([{"t": "x", "label": True}], r"nodes\.jsonl:1: label True is neither a name nor a number"),
        ([*ROWS, {"t": "x", "label": ["a"]}], r"nodes\.jsonl:7: label \['a'\] is neither a name nor a number"),
        (
            [*ROWS, {"title": "x", "label": "a"}],
            r"nodes\.jsonl:7: node 6 has no text: none of the columns t of.*",
        ),
        ([*ROWS, {"t": ["x"], "label": "a"}], r"nodes\.jsonl:7: column 't' is a list, not a text"),
    ],
)
def test_wrong_json_lines(raw_folder: Folder, nodes: str | bytes | list[dict[str, object]], message: str):
    assert re.fullmatch(message, problem(raw_folder(nodes, edges="src,dst\n")))


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ("t,label\nx,a\ny\n", r"nodes\.csv:3: the row does not have the header's 2 columns"),
        ('t,label\n"x\nx",a\ny,b,c\n', r"nodes\.csv:4: the row does not have the header's 2 columns"),
        # A skipped line would give every later node the text of the one before.
        ("t,label\nx,a\n\ny,b\n", r"nodes\.csv:3: an empty line; row number is node id, so none may be empty"),
        ("t,label,label\nx,a,b\n", r"nodes\.csv:1: column 'label' stands here twice"),
        ('t,label\n"x"x,a\n', r"nodes\.csv:2: not CSV: .*"),
        ('t,label\nx,a\n"y,b\nz,c\n', r"nodes\.csv:3: not CSV: .*"),
        (b"t,label\nx,a\n\xff,b\n", r"nodes\.csv:3: not UTF-8: invalid start byte"),
        ("t,label\n", r"nodes\.csv: holds no nodes"),
        ("", r"nodes\.csv: holds no nodes"),
    ],
)
def test_wrong_csv(raw_folder: Folder, nodes: str | bytes, message: str):
    assert re.fullmatch(message, problem(raw_folder(nodes, ending="csv")))


def test_what_is_no_parquet_file(raw_folder: Folder):
    pytest.importorskip("pyarrow")
    assert problem(raw_folder("t,label\nx,a\n", ending="parquet")).startswith("nodes.parquet: not a parquet file: ")


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ("num_nodes: 7\n", "1:12: num_nodes is 7, but nodes.jsonl holds 6 nodes"),
        ("text: 3\n", "1:7: text is a template over the node columns, such as '{title}'"),
        ("text: hello\n", "1:7: the text template names no column, such as '{title}'"),
        ("text: '{t} {x}'\n", "1:7: the text template names column 'x', which no node in nodes.jsonl has"),
        ("label_names: 3\n", "1:14: label_names is a list of names"),
        ("label_names: [a, a]\n", "1:14: label_names holds a name twice"),
        ("directed: no\n", "1:11: directed: write true or false"),
        ("splits: column\n", "1:9: splits is a mapping: {protocol: ...}"),
        ("splits: {protocl: column}\n", "1:10: unknown key 'protocl'; did you mean 'protocol'? (valid: protocol)"),
        ("splits:\n  protocol: random-60-20-30\n", "2:13: split 'random-60-20-30': the three shares are percentages"),
        ("splits:\n  protocol: official\n", "2:13: unknown protocol 'official' (valid: random-60-20-20 (any three"),
        ("instructions: {default: 3}\n", "1:15: instructions maps a variant"),
        ("instructions: {defualt: Say.}\n", "1:16: unknown instruction 'defualt'; did you mean 'default'?"),
        ("name: x\nname: y\n", "2:1: key 'name' stands here twice"),
    ],
)
def test_wrong_cards(raw_folder: Folder, card: str, message: str):
    assert problem(raw_folder(card=card)).startswith(f"dataset.yaml:{message}")


def test_a_label_that_is_not_declared(raw_folder: Folder):
    said = problem(raw_folder(card=TEXT + "label_names: [a, c]\n"))
    assert said == "nodes.jsonl:2: label 'b' is not among label_names of dataset.yaml"


@pytest.mark.parametrize(
    ("third", "message"),
    [
        ({"label": "a", "split": "dev"}, "nodes.jsonl:3: split 'dev' (valid: train, val, test, or empty)"),
        ({"label": "", "split": "test"}, "nodes.jsonl:3: node 2 belongs to the test part but has no label"),
        ({"label": "a", "split": ""}, "nodes.jsonl: the test part is empty"),
    ],
)
def test_wrong_split_columns(raw_folder: Folder, third: dict[str, str], message: str):
    rows = [{"t": "x", "label": "a", "split": "train"}, {"t": "y", "label": "b", "split": "valid"}, {"t": "z", **third}]
    assert problem(raw_folder(rows, card=TEXT + "splits: {protocol: column}\n")) == message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file, but the protocol is `file`"),
        ("{", "not JSON: "),
        ("[]", "expected an object with the lists train, val and test"),
        ('{"train": [0], "val": [1]}', "the list 'test' is missing"),
        ('{"train": [0], "val": [1], "tst": [2]}', "key 'tst' (valid: train, val, test, each once)"),
        ('{"train": [0], "val": [1], "valid": [3], "test": [2]}', "key 'valid' (valid: train, val, test, each once)"),
        ('{"train": [0.0], "val": [1], "test": [2]}', "'train' is not a list of row numbers"),
        ('{"train": [true], "val": [1], "test": [2]}', "'train' is not a list of row numbers"),
        ('{"train": [99999999999999999999], "val": [1], "test": [2]}', "'train' is not a list of row numbers"),
        ('{"train": [0], "val": [1], "test": [6]}', "the test part names node 6, but the nodes are 0 to 5"),
        ('{"train": [0], "val": [1], "test": [5]}', "node 5 belongs to the test part but has no label (1 such)"),
        ('{"train": [0], "val": [1], "test": [0]}', "node 0 belongs to both train and test"),
    ],
)
def test_wrong_split_files(raw_folder: Folder, content: str | None, message: str):
    rows = [*ROWS[:5], {"t": "x", "label": None}]
    more = {} if content is None else {"split": content}
    path = raw_folder(rows, card=TEXT + "splits: {protocol: file}\n", **more)
    assert problem(path).startswith(f"split.json: {message}")


def test_files_that_are_missing_or_too_many(raw_folder: Folder, tmp_path: Path):
    with pytest.raises(DatasetMissing, match=r"holds no dataset\.yaml"):
        folder.load(tmp_path / "absent")
    path = raw_folder(edges=None)
    assert problem(path) == ": holds no edges.csv or edges.parquet"
    (path / "nodes.csv").write_text("t,label\n")
    assert problem(path) == ": holds nodes.jsonl and nodes.csv; keep one of them"
    (path / "nodes.csv").unlink()
    (path / "nodes.jsonl").unlink()
    assert problem(path) == ": holds no nodes.jsonl or nodes.csv or nodes.parquet"
