"""One line, with file and line, for every mistake in a folder dataset."""

import pickle
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stage_bench.datasets import edges_file, folder
from stage_bench.datasets.folder import DatasetMissing, FolderProblems
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
        ("src,dst\n0,1\nTrue,2\n", "edges.csv:3: src 'True' is not a row number of a node"),
        ("src,dst,src\n0,1,2\n", "edges.csv:1: column 'src' stands here twice"),
        ("src,dst\n0,1,2\n1,2,3\n", "edges.csv:2: the row has more cells than the header"),
        ('src,dst\n0,"a\nb\x1b"\n', r"edges.csv:2: dst 'a\nb\x1b' is not a row number of a node"),
        (f"src,dst\n0,{'x' * 99}\n", f"edges.csv:2: dst '{'x' * 60}…' is not a row number of a node"),
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
        ([{"t": "x", "lable": "a"}] * 2, r"nodes\.jsonl: has no column 'label', but 'lable'; rename it"),
        ([{"t": "x", "Label": "a"}] * 2, r"nodes\.jsonl: has no column 'label', but 'Label'; rename it"),
        ([{"t": "x", "label": 4}] * 3, r"nodes\.jsonl: all labels are '4'; a classification needs two classes"),
        ([{"t": "x", "label": True}], r"nodes\.jsonl:1: label True is neither a name nor a number"),
        ([*ROWS, {"t": "x", "label": ["a"]}], r"nodes\.jsonl:7: label \['a'\] is neither a name nor a number"),
        (
            [*ROWS, {"title": "x", "label": "a"}],
            r"nodes\.jsonl:7: node 6 has no text: none of the columns t of.*",
        ),
        ([*ROWS, {"t": ["x"], "label": "a"}], r"nodes\.jsonl:7: column 't' is a list, not a text"),
        (
            [{"t": "x", "label": "a\nb"}] * 2,
            r"nodes\.jsonl: all labels are 'a\\nb'; a classification needs two classes",
        ),
        ([{"t": "x", "label": ["x" * 99]}], r"nodes\.jsonl:1: label \['x{58}… is neither a name nor a number"),
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
        ("num_nodes: six\n", "1:12: num_nodes is a whole number"),
        ("num_nodes: true\n", "1:12: num_nodes is a whole number"),
        ("<<: {text: x}\n", "1:1: YAML 1.2 has no merge key `<<`; write the keys out"),
        ('"text\\n": x\n', r"1:1: unknown key 'text\n'; did you mean 'text'?"),
        ('splits: {protocol: "a\\nb"}\n', r"1:20: unknown protocol 'a\nb' (valid: "),
        (f"splits: {{protocol: random-{'9' * 5000}-1-1}}\n", f"1:20: unknown protocol 'random-{'9' * 193}…' (valid: "),
        ("text: 3\n", "1:7: text is a template over the node columns, such as '{title}'"),
        ("text: hello\n", "1:7: the text template names no column, such as '{title}'"),
        ("text: '{t} {x}'\n", "1:7: the text template names column 'x', which no node in nodes.jsonl has"),
        ("text: '{x}'\n", "1:7: the text template names column 'x', which no node in nodes.jsonl has"),
        ("text: '{t: {t}'\n", "1:7: the text template's '{' at character 1 opens no column; a column is {name}, a "),
        ("text: '{t} t}'\n", "1:7: the text template's '}' at character 6 closes no column; a column is {name}, a "),
        ("text: '{t} { }'\n", "1:7: the text template's braces at character 5 name no column"),
        ("text: '{{t}}'\n", "1:7: the text template names no column, such as '{title}'"),
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
        ("notes: a sentence\n", "1:8: notes is a list of sentences"),
        ("sources: [a]\n", "1:10: sources is a mapping, such as {texts: where they are from}"),
        ("splits: {protocol: column}\n", "1:9: the protocol is `column`, but the nodes have no column `split`"),
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
        (r'{"a\nb": [0], "val": [1], "test": [2]}', r"key 'a\nb' (valid: train, val, test, each once)"),
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
    path = raw_folder()
    (path / "nodes.csv").write_text("t,label\n")
    assert problem(path) == ": holds nodes.jsonl and nodes.csv; keep one of them"
    (path / "nodes.csv").unlink()
    (path / "nodes.jsonl").unlink()
    assert problem(path) == (
        ": holds no nodes.jsonl or nodes.csv or nodes.parquet, and neither gpt_preds.csv nor num_nodes in dataset.yaml "
        "says how many nodes there are"
    )


@pytest.mark.parametrize(
    "name",
    [
        "edge.csv",
        "edges.tsv",
        "Edges.CSV",
        "edges.csv.gz",
        "edge_list.txt",
        "edge-index.csv",
        "edges.json",
        "edgse.csv",
    ],
)
def test_a_file_that_was_meant_for_the_edges(raw_folder: Folder, name: str):
    path = raw_folder(edges=None)
    (path / name).write_text("src,dst\n0,1\n")
    assert problem(path) == f"{name}: is not read; the edges are edges.csv or edges.parquet"


@pytest.mark.parametrize(
    "name", ["edge_weights.npy", ".edges.csv.swp", "edges.md", "notes.txt", "cites.csv", "README.md"]
)
def test_other_files_may_lie_there(raw_folder: Folder, name: str):
    path = raw_folder(edges=None)
    (path / name).write_text("")
    assert folder.load(path).num_edges == 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gpt_pred.csv", "is not read; the gpt_preds are gpt_preds.csv"),
        ("gpt_predictions.csv", "is not read; the gpt_preds are gpt_preds.csv"),
        ("gpt_preds.txt", "is not read; the gpt_preds are gpt_preds.csv"),
        ("label_name.csv", "is not read; the label_names are label_names.csv"),
        ("label_names.json", "is not read; the label_names are label_names.csv"),
    ],
)
def test_a_file_that_was_meant_for_another(raw_folder: Folder, name: str, message: str):
    path = raw_folder()
    (path / name).write_text("")
    assert problem(path) == f"{name}: {message}"


@pytest.mark.parametrize("name", ["", "column", "file", "random-60-20-20", "random-1-1-1"])
def test_a_split_cannot_be_called_as_others_are(raw_folder: Folder, name: str):
    """It would take the place of what a suite means by that name."""
    path = raw_folder(**{f"split_{name}": '{"train": [0], "val": [1], "test": [2]}'})
    said = problem(path)
    assert said == f"split_{name}.json: a split of one's own cannot be called '{name}'; rename the file"


@pytest.mark.parametrize("name", ["split.json", "split_public.json"])
def test_a_folder_in_the_place_of_a_file(raw_folder: Folder, name: str):
    path = raw_folder(card=TEXT + ("splits: {protocol: file}\n" if name == "split.json" else ""))
    (path / name).mkdir()
    assert problem(path) == f"{name}: cannot be read: Is a directory"


def test_a_number_of_nodes_that_no_file_bears_out(raw_folder: Folder):
    path = raw_folder(card="num_nodes: 1000000000000\n")
    (path / "nodes.jsonl").unlink()
    said = problem(path)
    assert said == "dataset.yaml:1:12: num_nodes is more than 268,435,456, and no file of nodes bears that out"


def test_a_folder_that_no_path_can_be(tmp_path: Path):
    with pytest.raises(StageBenchError, match="xxx: cannot be read: File name too long"):
        folder.load(tmp_path / ("x" * 300))


def test_bytes_are_no_text(raw_folder: Folder):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = raw_folder()
    (path / "nodes.jsonl").unlink()
    parquet.write_table(pyarrow.table({"t": [b"x", b"y"], "label": ["a", "b"]}), path / "nodes.parquet")
    assert problem(path) == "nodes.parquet: row 0: column 't' is a bytes, not a text"
    parquet.write_table(pyarrow.table({"t": ["x", "y"], "label": [b"a", b"b"]}), path / "nodes.parquet")
    assert problem(path) == "nodes.parquet: row 0: label b'a' is neither a name nor a number"


def test_an_edges_column_twice(raw_folder: Folder):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = raw_folder(edges=None)
    table = pyarrow.Table.from_arrays([pyarrow.array([0])] * 3, names=["src", "dst", "src"])
    parquet.write_table(table, path / "edges.parquet")
    assert problem(path) == "edges.parquet: column 'src' stands there twice"


def test_many_label_names_are_read_in_time(raw_folder: Folder):
    path = raw_folder()
    names = "".join(f"{number},name {number}\n" for number in range(200_000))
    (path / "label_names.csv").write_text(f"n,name\n{names}200000,name 7\n")
    assert problem(path) == "label_names.csv:200002: 'name 7' stands here twice"


def test_a_nodes_file_under_another_name(raw_folder: Folder):
    path = raw_folder(card="num_nodes: 6\n")
    (path / "nodes.jsonl").rename(path / "node.jsonl")
    assert problem(path) == "node.jsonl: is not read; the nodes are nodes.jsonl or nodes.csv or nodes.parquet"


def test_a_template_without_nodes(raw_folder: Folder):
    path = raw_folder(card="num_nodes: 6\ntext: '{t}'\n")
    (path / "nodes.jsonl").unlink()
    assert problem(path).startswith("dataset.yaml:2:7: there is a text template, but no nodes.jsonl or ")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("n,name\n0,a\n", "label_names.csv: 'b'"),
        ("n,name\n0,a\n1,a\n", "label_names.csv:3: 'a' stands here twice"),
        ("n,name\n0,a\n0,b\n", "label_names.csv:3: 0 stands here twice"),
        ("n,name\nx,a\n", "label_names.csv:2: expected a label's number and its name, such as 3,cs.CL"),
        ("n,name\n0,a,b\n", "label_names.csv:2: expected a label's number and its name, such as 3,cs.CL"),
        ("n,name\n", "label_names.csv: holds no label after its header"),
        ("", "label_names.csv: holds no label after its header"),
        ('n,name\n0,"a\n', "label_names.csv: not a CSV file: unexpected end of data"),
    ],
)
def test_wrong_label_names(raw_folder: Folder, names: str, message: str):
    path = raw_folder()
    (path / "label_names.csv").write_text(names)
    said = problem(path)
    if message.endswith("'b'"):
        assert said == "nodes.jsonl:2: label 'b' is not among label_names of label_names.csv"
    else:
        assert said == message


def test_a_split_that_is_named_nowhere_but_stands_in_two_places(raw_folder: Folder):
    rows = [{**row, "split": part} for row, part in zip(ROWS, ["train", "val", "test"] * 2, strict=True)]
    path = raw_folder(rows, split='{"train": [0], "val": [1], "test": [2]}')
    assert problem(path).startswith("dataset.yaml:1:1: the nodes have a `split` column and there is a split.json: ")


def test_every_problem_is_found(raw_folder: Folder):
    path = raw_folder(
        edges="src,dst\n0,6\n",
        card="text: '{x}'\nlabel_names: [a]\ndirected: maybe\nnum_nodes: 7\nsplits: {protocol: file}\n",
        split_public="[]",
    )
    with pytest.raises(FolderProblems) as caught:
        folder.load(path)
    places = [said.removeprefix(f"{path}/").partition(": ")[0] for said in caught.value.problems]
    assert places == [
        "dataset.yaml:4:12",
        "dataset.yaml:1:7",
        "nodes.jsonl:2",
        "edges.csv:2",
        "dataset.yaml:3:11",
        "split.json",
        "split_public.json",
    ]
    assert str(caught.value).startswith(f"{path}/dataset.yaml:4:12: num_nodes is 7, but nodes.jsonl holds 6 nodes")
    assert str(caught.value).endswith(f"; and 6 more, see stage-bench check dataset {path}")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # as from a worker process


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ("src,dst\n0,1.0\n\n0,9\n", "edges.csv:4: the edge names node 9, which does not exist: the nodes are 0 to 5"),
        ("src,dst\n0,1\n\n0,9\n", "edges.csv:4: the edge names node 9, which does not exist: the nodes are 0 to 5"),
        ("src,dst\n0,99999999999999999999\n", "edges.csv:2: the edge names node 100000000000000000000, which does "),
    ],
)
def test_the_place_of_an_edge(raw_folder: Folder, edges: str, message: str):
    assert problem(raw_folder(edges=edges)).startswith(message)


def test_the_place_of_an_edge_far_down(raw_folder: Folder, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(edges_file, "_CHUNK", 2)
    assert problem(raw_folder(edges="src,dst\n0,1.0\n1,2\n2,3\n3,4\n4,x\n")).startswith("edges.csv:6: dst 'x'")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("0\n1\n0\n", "holds 3 lines, one a node, but there are 6 nodes"),
        ("0\n1\n0\n0\n0\n0\n0\n", "holds 7 lines, one a node, but there are 6 nodes"),
        ("0\n1,b\n0\n0\n0\n0\n", ":2: '1,b' is not a list of label ids"),
        ("0\n1,\n0\n0\n0\n0\n", ":2: '1,' is not a list of label ids"),
    ],
)
def test_wrong_predictions(raw_folder: Folder, content: str, message: str):
    path = raw_folder()
    (path / "gpt_preds.csv").write_text(content)
    graph = folder.load(path)  # they are read when they are asked for
    with pytest.raises(StageBenchError) as caught:
        _ = graph.predictions
    assert str(caught.value) == f"{path / 'gpt_preds.csv'}{'' if message[0] == ':' else ': '}{message}"


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((5, 2)), "has 5 rows, but there are 6 nodes"),
        (np.zeros(6), "has the shape [6], not [nodes, dimension]"),
        (np.zeros((6, 0)), "has the shape [6, 0], not [nodes, dimension]"),
        (np.array([["a"]] * 6), "holds <U1, not numbers"),
        (np.array([[{}]] * 6), "not a NumPy array: "),
        (b"PK\x05\x06" + b"\0" * 18, "not a NumPy array: it is an archive"),
        (b"", "not a NumPy array: No data left in file"),
        (b"0,1\n", "not a NumPy array: "),
    ],
)
def test_wrong_matrices(raw_folder: Folder, array: np.ndarray | bytes, message: str):
    path = raw_folder()
    if isinstance(array, bytes):
        (path / "x.npy").write_bytes(array)
    else:
        np.save(path / "x.npy", array)
    graph = folder.load(path)
    with pytest.raises(StageBenchError) as caught:
        graph.matrix("x.npy")
    assert str(caught.value).startswith(f"{path / 'x.npy'}: {message}")
    with pytest.raises(StageBenchError, match=r"^dataset 'data' has no matrix 'y\.npy'; there are x\.npy$"):
        graph.matrix("y.npy")


def test_a_column_that_a_parquet_file_lacks_or_that_holds_something_else(raw_folder: Folder):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    path = raw_folder(edges=None)
    for frame, message in (
        (pandas.DataFrame({"src": [0], "to": [1]}), ": column 'dst' is missing (there are src, to)"),
        (pandas.DataFrame({"src": [0], "dst": ["1"]}), ": column 'dst' holds "),
        (pandas.DataFrame({"src": [0, 1], "dst": [1, None]}), ": row 1: dst 'nan' is not a row number of a node"),
        (pandas.DataFrame({"src": [0, 6], "dst": [1, 1]}), ": row 1: the edge names node 6, which does not exist: "),
    ):
        frame.to_parquet(path / "edges.parquet")
        assert problem(path).startswith(f"edges.parquet{message}")


def test_a_label_below_zero_is_no_class(raw_folder: Folder):
    rows = [{"t": "a", "label": number - 1} for number in range(4)]
    said = "nodes.jsonl:1: label -1 is below zero; leave it empty where a node has no label"
    assert problem(raw_folder(rows)) == said


@pytest.mark.parametrize("column", ["label", "split"])
def test_a_template_does_not_hold_the_answer(raw_folder: Folder, column: str):
    said = problem(raw_folder(card=f"text: '{{t}} {{{column}}}'\n"))
    assert said.endswith(f"the text template names the column '{column}': the text would hold the answer")
