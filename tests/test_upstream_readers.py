"""Upstream files become tables in which row i is about node i, and these become folders that say the same."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import upstream_samples as samples
from stage_bench.datasets import folder
from stage_bench.datasets.upstream import cora, folder_writing, ogbn, products_subset, pubmed, tape_arxiv23
from stage_bench.datasets.upstream.lookup import find
from stage_bench.datasets.upstream.table import Table
from stage_bench.errors import StageBenchError

PAPERS = [("31336", "Neural_Networks"), ("35", "Genetic_Algorithms"), ("1033", "Theory"), ("7", "Case_Based")]
CITES = [("35", "1033"), ("31336", "1033"), ("35", "999999"), ("999999", "35"), ("7", "7"), ("35", "1033")]


def refuses(read: Callable[[Path], Table], upstream: Path) -> str:
    with pytest.raises(StageBenchError) as caught:
        read(upstream)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(f"{upstream}", "UP")


def cora_with_texts(upstream: Path) -> Path:
    """Four papers: a plain one, one in Latin-1 under an odd name, one listed three times, one whose file is missing."""
    samples.cora(upstream, PAPERS, CITES)
    samples.extraction(upstream, "http:##www.x.org#plain.ps", "Plain title", "Plain abstract")
    samples.extraction(upstream, "ftp_##ftp.x.org#caf_.ps", "Café", "Größe\x85more", encoding="latin-1")
    samples.extraction(upstream, "short.ps", "Only a title", None)
    samples.extraction(upstream, "full.ps", "Full title", "Full abstract")
    samples.extraction(upstream, "no-title.ps", None, "Only an abstract")
    papers = (
        "31336\thttp:##www.x.org#plain.ps\t<title>junk</title>\n"
        "35\tftp:##ftp.x.org#caf\xe9.ps\tA. Author\n"
        "1033\tfull.ps\tx\n"
        "1033\tfull.ps\tx\n"
        "1033\tno-title.ps\tx\n"
        "555\tof-no-node.ps\tx\n"
        "7\tmissing.ps\tx\n"
    )
    samples.put(upstream / "mccallum/cora/papers", papers, "latin-1")
    return upstream


def test_cora(tmp_path: Path):
    table = cora.read(cora_with_texts(tmp_path))
    assert table.columns == {
        "id": ["31336", "35", "1033", "7"],
        "title": ("Plain title", "Café", "Full title", ""),
        "abstract": ("Plain abstract", "Größe\x85more", "Full abstract", ""),
    }
    assert [table.label_names[label] for label in table.labels] == [label for _, label in PAPERS]
    # Citing to cited, as often as it stands there; the one with an unknown end is left out.
    assert table.edges.T.tolist() == [[2, 1], [2, 0], [3, 3], [2, 1]]
    assert table.notes == [
        "1 paper has no text file: no title and no abstract",
        "1 paper without a title",
        "1 paper without an abstract",
        "1 paper with several text files: the most complete is taken, of equals the last listed",
        "2 citations left out: an end is not in cora.content",
    ]
    assert table.gpt_preds is None


def test_a_paper_never_has_the_text_of_another(tmp_path: Path):
    samples.cora(tmp_path, PAPERS, [])
    samples.extraction(tmp_path, "a.ps", "A", None)
    samples.extraction(tmp_path, "b.ps", None, "B")
    samples.put(tmp_path / "mccallum/cora/papers", "31336\ta.ps\tx\n35\tb.ps\tx\n1033\tabsent.ps\tx\n")
    table = cora.read(tmp_path)
    assert table.columns["title"] == ("A", "", "", "")
    assert table.columns["abstract"] == ("", "B", "", "")
    assert table.notes[:2] == [
        "1 paper is not in `papers`: no title and no abstract",
        "1 paper has no text file: no title and no abstract",
    ]


def test_of_several_files_that_are_as_complete_the_last_counts(tmp_path: Path):
    samples.cora(tmp_path, PAPERS, [])
    for name in ("a.ps", "b.ps", "c.ps"):
        samples.extraction(tmp_path, name, f"Title of {name}", None if name == "c.ps" else "x")
    samples.put(tmp_path / "mccallum/cora/papers", "".join(f"35\t{name}\tx\n" for name in ("a.ps", "b.ps", "c.ps")))
    assert cora.read(tmp_path).columns["title"][1] == "Title of b.ps"


def test_the_first_title_of_a_file_counts(tmp_path: Path):
    samples.cora(tmp_path, PAPERS, [])
    samples.put(tmp_path / "mccallum/cora/papers", "35\ta.ps\tx\n")
    samples.put(tmp_path / "mccallum/cora/extractions/a.ps", "Title: Its own\r\nAbstract:\r\nTitle: Of a reference\r\n")
    table = cora.read(tmp_path)
    assert (table.columns["title"][1], table.columns["abstract"][1]) == ("Its own", "")


def test_names_that_differ_in_odd_characters_only(tmp_path: Path):
    """The exact name wins; where only names that are alike are left, none is guessed."""
    samples.cora(tmp_path, PAPERS, [])
    samples.extraction(tmp_path, "a:b.ps", "colon", "x")
    samples.extraction(tmp_path, "a_b.ps", "underscore", "x")
    names = {"31336": "a:b.ps", "35": "a_b.ps", "1033": "a?b.ps"}
    samples.put(tmp_path / "mccallum/cora/papers", "".join(f"{id_}\t{name}\tx\n" for id_, name in names.items()))
    table = cora.read(tmp_path)
    assert table.columns["title"] == ("colon", "underscore", "", "")
    assert "1 file name fits several text files; none is taken" in table.notes


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (
            "cora.content",
            "1\t0\t1\tTheory\n2\t0\t1\tTheology\n",
            "UP/cora.content:2: expected a paper id, its words and",
        ),
        ("cora.content", "1\t0\tTheory\n1\t0\tTheory\n", "UP/cora.content:2: paper 1 stands here twice"),
        ("cora.cites", "1\t2\n3\n", "UP/cora.cites:2: expected two paper ids"),
        ("mccallum/cora/papers", "31336\n", "UP/mccallum/cora/papers:1: expected a paper id, a tab and a file name"),
    ],
)
def test_cora_files_that_are_wrong(tmp_path: Path, file: str, content: str, message: str):
    samples.put(cora_with_texts(tmp_path) / file, content)
    assert refuses(cora.read, tmp_path).startswith(message)


def test_a_file_is_found_at_any_depth_and_once(tmp_path: Path):
    assert refuses(cora.read, tmp_path) == "UP: expected one file cora.content, found none"
    first = samples.put(tmp_path / "a/cora_orig/cora.content", "")
    samples.put(tmp_path / "__MACOSX/a/cora.content", "")
    (tmp_path / "b/cora.content").mkdir(parents=True)
    assert find(tmp_path, "cora.content") == find(tmp_path, "cora_orig/cora.content", "x/cora.content") == first
    samples.put(tmp_path / "c/cora.content", "")
    assert refuses(cora.read, tmp_path) == (
        "UP: expected one file cora.content, found a/cora_orig/cora.content, c/cora.content: keep one"
    )


PUBMED = [("111", 1), ("222", 3), ("333", 2), ("444", 1), ("555", 1)]
RECORDS = [
    {"PMID": "444", "TI": "Four", "AB": "Abstract four", "AU": ["x"]},
    {"PMID": 333, "TI": None, "AB": "No title"},
    {"PMID": "999", "TI": "Of no node", "AB": "x"},
    {"PMID": "222", "TI": "Two"},
    {"PMID": "111", "TI": "One", "AB": "Abstract one"},
    {"PMID": "111", "TI": "One", "AB": "Abstract one"},
    {"PMID": "444", "TI": "Four", "AB": "Another"},
    {"TI": "Without an id"},
]


def test_pubmed_is_joined_by_id(tmp_path: Path):
    samples.pubmed(tmp_path / "PubMed_orig", PUBMED, [("111", "333"), ("444", "222"), ("1", "222")], RECORDS)
    table = pubmed.read(tmp_path)
    assert table.columns == {
        "id": ["111", "222", "333", "444", "555"],
        "title": ["One", "Two", "", "Four", ""],
        "abstract": ["Abstract one", "", "No title", "Abstract four", ""],
    }
    assert table.labels.tolist() == [0, 2, 1, 0, 0]
    assert table.label_names[2] == "Diabetes Mellitus Type 2"
    assert table.edges.tolist() == [[0, 3], [2, 1]]
    assert table.notes == [
        "1 paper without a record in pubmed.json: no title and no abstract",
        "2 papers without a title",
        "2 papers without an abstract",
        "1 record repeated with the same text",
        "1 record repeated with another text: the first one counts",
        "2 records of pubmed.json belonging to no node",
        "1 citation left out: an end is not in the node file",
    ]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (
            "data/Pubmed-Diabetes.NODE.paper.tab",
            "h\nh\n1\tlabel=4\n",
            ".tab:3: expected a paper id and label=1, label=2",
        ),
        ("data/Pubmed-Diabetes.NODE.paper.tab", "h\nh\n1\tlabel=1\n1\tlabel=1\n", ".tab:4: paper 1 stands here twice"),
        (
            "data/Pubmed-Diabetes.DIRECTED.cites.tab",
            "h\nh\n1\tpaper:1\t|\n",
            ".cites.tab:3: expected an edge id, paper",
        ),
        ("pubmed.json", "[", "pubmed.json: not JSON: "),
        ("pubmed.json", "{}", "pubmed.json: expected a list of records"),
        ("pubmed.json", "[3]", "pubmed.json: record 0 is not an object"),
        ("pubmed.json", '[{"PMID": "1", "TI": ["x"]}, {"PMID": "111", "TI": 3}]', "TI of record 1 is not a text"),
    ],
)
def test_pubmed_files_that_are_wrong(tmp_path: Path, file: str, content: str, message: str):
    samples.pubmed(tmp_path, PUBMED, [("111", "333")], RECORDS)
    samples.put(tmp_path / file, content)
    assert message in refuses(pubmed.read, tmp_path)


@pytest.mark.parametrize("junk", [False, True])
def test_arxiv(tmp_path: Path, junk: bool):
    samples.arxiv(tmp_path / "arxiv")
    begin, end = ("titleabs.tsv\x000000644\x00 0\x0010\tJunk\tin the header\n", "\x00" * 512) if junk else ("", "")
    samples.put(tmp_path / "titleabs.tsv", begin + samples.TITLEABS + end)
    table = ogbn.read_arxiv(tmp_path)
    assert table.columns == {
        "id": ["200971", "7", "42", "11", "5"],
        "year": [2013, 2015, 2018, 2019, 2020],
        "title": ("First title", "NA", 'A "quoted start of a title', "", "Fifth title"),
        "abstract": ("First abstract", "Abstract with\ta tab", "nan", "No title", "Fifth abstract"),
    }
    assert table.labels.tolist() == [0, 1, 2, 1, 0]
    assert table.label_names == ["cs.NA", "cs.MM", "cs.LO"]
    assert table.edges.T.tolist() == [[0, 1], [2, 1], [3, 4], [4, 3]]
    assert {part: nodes.tolist() for part, nodes in table.parts.items()} == {
        "train": [0, 1],
        "val": [2],
        "test": [3, 4],
    }
    assert table.features is not None
    assert table.features.dtype == np.float32
    assert table.features.tolist() == (np.arange(10).reshape(5, 2) / 8).tolist()
    skipped = ["2 lines of titleabs.tsv that is no paper, skipped"] if junk else []
    assert table.notes == [*skipped, "1 paper without a title"]


def test_the_rows_of_a_mapping_may_stand_in_any_order(tmp_path: Path):
    samples.arxiv(tmp_path / "arxiv")
    samples.put(tmp_path / "titleabs.tsv", samples.TITLEABS)
    rows = "4,5\n0,200971\n2,42\n3,11\n1,7\n"
    samples.put(tmp_path / "arxiv/mapping/nodeidx2paperid.csv.gz", f"node idx,paper id\n{rows}")
    assert ogbn.read_arxiv(tmp_path).columns["id"] == ["200971", "7", "42", "11", "5"]


def test_every_paper_of_arxiv_must_have_a_line(tmp_path: Path):
    samples.arxiv(tmp_path / "arxiv")
    samples.put(tmp_path / "titleabs.tsv", samples.TITLEABS.replace("42\t", "43\t").replace("7\tNA", "x7\tNA"))
    assert refuses(ogbn.read_arxiv, tmp_path) == (
        "UP/titleabs.tsv: 2 of 5 papers have no line, the first of them paper id 7"
    )


def test_lines_of_arxiv_that_stand_there_twice(tmp_path: Path):
    samples.arxiv(tmp_path / "arxiv")
    samples.put(tmp_path / "titleabs.tsv", samples.TITLEABS + "5\tFifth title\tFifth abstract\n42\tOther\ttext\n")
    table = ogbn.read_arxiv(tmp_path)
    assert table.columns["title"][2] == 'A "quoted start of a title'
    assert table.notes[1:] == [
        "1 line of titleabs.tsv repeated",
        "1 line of titleabs.tsv with another text for the same paper: the first one counts",
    ]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("raw/num-node-list.csv.gz", "6\n", "node-label.csv.gz: 5 nodes, but num-node-list.csv.gz says 6"),
        ("raw/num-edge-list.csv.gz", "3\n", "edge.csv.gz: 4 edges, but num-edge-list.csv.gz says 3"),
        ("raw/edge.csv.gz", "0,1\n0,1\n0,1\n0,5\n", "edge.csv.gz: names node 5, but the nodes are 0 to 4"),
        ("raw/edge.csv.gz", "0,1,2\n" * 4, "edge.csv.gz: 3 columns, expected 2"),
        ("raw/edge.csv.gz", "0,x\n" * 4, "edge.csv.gz: not a CSV file of the expected form"),
        ("raw/node-feat.csv.gz", "1,2\n" * 4, "node-feat.csv.gz: 4 rows, but there are 5 nodes"),
        ("raw/node-feat.csv.gz", "1,2\n" * 6, "node-feat.csv.gz: more than 5 rows, one for each node"),
        ("raw/node-feat.csv.gz", "1,2\n" * 4 + "1,x\n", "node-feat.csv.gz: not a table of numbers"),
        ("raw/node-label.csv.gz", "", "node-label.csv.gz: not a CSV file of the expected form"),
        ("mapping/nodeidx2paperid.csv.gz", "node idx,paper id\n0,7\n1,5\n", "'node idx' is not each of 0 to 4 once"),
        (
            "mapping/nodeidx2paperid.csv.gz",
            "node idx,id\n0,7\n",
            "column 'paper id' is missing (there are node idx, id)",
        ),
        ("raw/edge.csv.gz", b"no gzip", "edge.csv.gz: "),
    ],
)
def test_ogb_files_that_are_wrong(tmp_path: Path, file: str, content: str | bytes, message: str):
    samples.arxiv(tmp_path / "arxiv")
    samples.put(tmp_path / "titleabs.tsv", samples.TITLEABS)
    path = samples.put(tmp_path / "arxiv" / file, content)
    if isinstance(content, bytes):
        path.write_bytes(content)
    assert message in refuses(ogbn.read_arxiv, tmp_path)


def test_a_gzip_file_that_is_cut_short(tmp_path: Path):
    samples.arxiv(tmp_path / "arxiv")
    samples.put(tmp_path / "titleabs.tsv", samples.TITLEABS)
    path = tmp_path / "arxiv/raw/edge.csv.gz"
    path.write_bytes(path.read_bytes()[:-12])
    assert "UP/arxiv/raw/edge.csv.gz: not a CSV file" in refuses(ogbn.read_arxiv, tmp_path)


TRN = [
    {"uid": "0001", "title": "First", "content": "Content ü"},
    {"uid": "ZZZZ", "title": "Of no node", "content": "x"},
    {"uid": "B00Y", "title": "Third", "content": ""},
]
TST = [
    {"uid": "B00X", "title": None, "content": "half a pair: \ud83d, a NUL: \0"},
    {"uid": "0001", "title": "First again", "content": "x"},
]


@pytest.mark.parametrize("ending", [".gz", ""])
def test_products(tmp_path: Path, ending: str):
    samples.products(tmp_path / "products")
    samples.amazon(tmp_path / "Amazon-3M.raw", TRN, TST, ending)
    table = ogbn.read_products(tmp_path)
    assert list(table.columns["id"]) == ["0001", "B00X", "B00Y", "0001"]
    assert list(table.columns["title"]) == ["First", "", "Third", "First"]
    assert list(table.columns["content"]) == ["Content ü", "half a pair: \ud83d, a NUL: \0", "", "Content ü"]
    assert table.columns["title"][1:3] == ["", "Third"]
    assert table.labels.tolist() == [2, 0, 1, 2]
    assert table.label_names == ["Home & Kitchen", "class 1", "Home & Kitchen (2)"]
    assert table.edges.T.tolist() == [[0, 1], [1, 2], [3, 0]]
    assert not table.directed
    assert table.notes == [
        "1 product without a title",
        "1 product without a description",
        "1 record of Amazon-3M for a product that has one already: the first one counts",
        "1 node with the ASIN of another: they share its text",
    ]


def test_every_product_must_have_a_record(tmp_path: Path):
    samples.products(tmp_path / "products", asins=["0001", "B00X", "B00Y", "B00W"])
    samples.amazon(tmp_path / "Amazon-3M.raw", TRN, [])
    assert refuses(ogbn.read_products, tmp_path) == (
        "UP: 2 of 4 products are neither in trn.json nor in tst.json, the first of them B00X"
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "trn.json:2: not one JSON object a line"),
        ("[]", "trn.json:2: not one JSON object a line: not an object"),
        ('{"uid": "0001", "title": 3}', "trn.json:2: title is not a text"),
    ],
)
def test_amazon_files_that_are_wrong(tmp_path: Path, line: str, message: str):
    samples.products(tmp_path / "products")
    samples.amazon(tmp_path, [], [], "")
    samples.put(tmp_path / "trn.json", '{"uid": "x"}\n' + line + "\n")
    assert message in refuses(ogbn.read_products, tmp_path)


@pytest.mark.parametrize("layout", ["new", "old", "dict"])
@pytest.mark.parametrize("ids", [True, False])
def test_products_subset(tmp_path: Path, layout: str, ids: bool):
    table = products_subset.read(samples.subset(tmp_path, layout, ids))
    assert table.columns == {
        "id": ["A1", "A2", "A3", "A4"],
        "nid": ["11", "5", "99", "7"],
        "title": ["One, with a comma", "", "nan", 'Four "quoted"'],
        "content": ["Content\nover lines", "No title", "", "ü 8&quot;"],
    }
    assert table.labels.tolist() == [3, 0, 46, 24]
    assert len(table.label_names) == 47
    assert table.edges.tolist() == [[1, 2, 0], [0, 1, 3]]
    assert {part: nodes.tolist() for part, nodes in table.parts.items()} == {"train": [0, 3], "val": [1], "test": [2]}
    assert table.features is not None
    assert table.features.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]
    how = "joined by uid" if ids else "taken by position: the file of tensors holds no ids"
    assert table.notes == [f"texts are {how}", "1 product without a title", "1 product without a description"]


def test_products_subset_is_joined_by_id(tmp_path: Path):
    """The rows of the table stand in another order, one of them twice, and there is one more."""
    path = samples.subset(tmp_path) / "ogbn-products_subset.csv"
    rows = [("A4", 7, "four", "d"), ("A9", 1, "x", "x"), ("A1", 11, "one", "a"), ("A3", 99, "three", "c")]
    samples.write_csv(path, "uid,nid,title,content", [*rows, ("A2", 5, "two", "b"), rows[0]])
    assert products_subset.read(tmp_path).columns["title"] == ["one", "two", "three", "four"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("A1", 11, "one", "a")], "holds no row for uid A2, which ogbn-products_subset.pt has"),
        ([("A1", 11, "one", "a"), ("A1", 11, "other", "a")], "uid A1 stands here twice, with different texts"),
    ],
)
def test_products_subset_of_other_nodes(tmp_path: Path, rows: list[tuple[object, ...]], message: str):
    samples.write_csv(samples.subset(tmp_path) / "ogbn-products_subset.csv", "uid,nid,title,content", rows)
    assert message in refuses(products_subset.read, tmp_path)


@pytest.mark.parametrize(
    ("changes", "titles", "note"),
    [
        ({}, ["one", "two", "three", "four"], ["2 nodes whose nid is not its n_id"]),
        ({"n_asin": None}, ["two", "one", "three", "four"], []),
    ],
)
def test_products_subset_by_asin_or_else_by_number(
    tmp_path: Path, changes: dict[str, Any], titles: list[str], note: list[str]
):
    path = samples.subset(tmp_path, **changes) / "ogbn-products_subset.csv"
    rows = [("A1", 5, "one", "a"), ("A2", 11, "two", "b"), ("A3", 99, "three", "c"), ("A4", 7, "four", "d")]
    samples.write_csv(path, "uid,nid,title,content", rows)
    table = products_subset.read(tmp_path)
    assert table.columns["title"] == titles
    assert table.notes == [f"texts are joined by {'uid' if note else 'nid'}", *note]


def test_products_subset_without_ids_counts(tmp_path: Path):
    samples.write_csv(
        samples.subset(tmp_path, ids=False) / "ogbn-products_subset.csv", "uid,nid,title,content", [("A", 1, "x", "y")]
    )
    assert refuses(products_subset.read, tmp_path) == (
        "UP/ogbn-products_subset.csv: 1 rows, but ogbn-products_subset.pt has 4 nodes"
    )


@pytest.mark.parametrize("layout", ["new", "old", "dict"])
def test_tape_arxiv23(tmp_path: Path, layout: str):
    table = tape_arxiv23.read(samples.tape_arxiv23(tmp_path, layout))
    assert table.columns == {
        "id": [paper[0] for paper in samples.PAPERS],
        "title": ["First, with a comma", "", "nan", "Forth ü"],
        "abstract": ['An "abstract"\nover lines', "No title", "", "Last"],
    }
    assert [table.label_names[label] for label in table.labels] == ["cs.LG", "cs.AI", "cs.LG", "cs.CL"]
    assert table.edges.T.tolist() == [[0, 1], [0, 1], [2, 0], [3, 2]]
    assert table.directed
    assert table.notes == ["1 paper without a title", "1 paper without an abstract"]


def test_tape_arxiv23_in_another_order(tmp_path: Path):
    table = tape_arxiv23.read(samples.tape_arxiv23(tmp_path, papers=samples.PAPERS[::-1]))
    assert table.columns["title"] == ["First, with a comma", "", "nan", "Forth ü"]


def test_tape_arxiv23_checks_texts_by_the_subject(tmp_path: Path):
    """Rows shifted by one, and nothing else to see it by."""
    shifted = [(*paper[:4], node) for node, paper in enumerate([*samples.PAPERS[1:], samples.PAPERS[0]])]
    samples.tape_arxiv23(tmp_path, papers=shifted)
    assert refuses(tape_arxiv23.read, tmp_path) == (
        "UP/paper_info.csv: only 0 of 4 subjects are the label of their node; the rows are not in the order of the "
        "nodes"
    )


def test_tape_arxiv23_says_where_it_could_not_check(tmp_path: Path):
    samples.tape_arxiv23(tmp_path)
    samples.write_csv(tmp_path / "paper_info.csv", "title,abstract", [paper[1:3] for paper in samples.PAPERS])
    assert tape_arxiv23.read(tmp_path).notes[0] == (
        "texts are taken by position: paper_info.csv has no column `subject` to check them by"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("title,abstract\na,b\n", "1 papers, but graph.pt has 4 nodes"),
        ("title,text\na,b\n", ":1: column 'abstract' is missing (there are title, text)"),
        ("title,abstract\na,b\nc\n", ":3: 1 cells, expected 2"),
        ("title,abstract,node_id\na,b,0\na,b,1\na,b,1\na,b,3\n", "no row has node_id 2"),
        (b"title,abstract\n\xff,b\n", "not a CSV file"),
    ],
)
def test_tape_arxiv23_files_that_are_wrong(tmp_path: Path, content: str | bytes, message: str):
    samples.put(samples.tape_arxiv23(tmp_path) / "paper_info.csv", content)
    assert message in refuses(tape_arxiv23.read, tmp_path)


def test_gpt_predictions(tmp_path: Path):
    samples.put(samples.tape_arxiv23(tmp_path) / "gpt_preds.csv", "24,3\r\n10\r\n\r\n30,24\r\n")
    assert tape_arxiv23.read(tmp_path).gpt_preds == ["24,3", "10", "", "30,24"]
    samples.put(tmp_path / "gpt_preds.csv", "24\n")
    assert refuses(tape_arxiv23.read, tmp_path) == (
        "UP/gpt_preds.csv: 1 lines, but there are 4 nodes; the dataset does without it: take it away"
    )


def table_of(**changes: Any) -> Table:
    fields: dict[str, Any] = {
        "columns": {"id": ["a", "b", "c"], "year": [1999, None, 2001], "t": ["x", "", "nan"]},
        "text": "Title: {t}\nid {id}",
        "labels": np.array([1, -1, 0]),
        "label_names": ["first", "second"],
        "edges": np.array([[0, 2, 2], [1, 0, 0]]),
        "origin": "a test",
    }
    return Table(**fields | changes)


NASTY = [
    "\ud83d lone \ude00",
    "NUL \0 and \x1f",
    "\u2028\u2029\x85",
    '"quoted", \\ {braces}',
    " \t\r\n ",
    "null",
    "é\U0001f600",
]


def test_what_is_written_is_what_is_read(tmp_path: Path):
    count = len(NASTY)
    table = table_of(
        columns={"t": NASTY, "id": [f"{node:04}" for node in range(count)], "year": [None] * count},
        labels=np.array([0, 1, 2, -1, 4, 5, 6]),
        label_names=["1e5", "0o7", "no", "~", ".5", "a: b", "# c"],
        edges=np.array([[0, 1, 6, 6], [1, 0, 2, 2]]),
        parts={"train": np.array([0, 4]), "val": np.array([1]), "test": np.array([6])},
        gpt_preds=["1,2", "", "0", "6,5,4", "1", "2", "3"],
        features=np.arange(14, dtype=np.float32).reshape(7, 2),
        licence="CC0: free",
        notes=["1 paper: without", "- a dash", "x" * 300 + "  y"],
    )
    folder_writing.write(table, tmp_path / "made", "made", {"a.zip": "0e1234"})
    graph = folder.load(tmp_path / "made", undirected=False)
    assert list(graph.texts or ()) == [f"Title: {text}\nid {node:04}" for node, text in enumerate(NASTY)]
    assert graph.labels.tolist() == table.labels.tolist()
    assert list(graph.label_names) == list(table.label_names)
    assert graph.edges.T.tolist() == [[0, 1], [1, 0], [6, 2]]
    assert graph.facts["edges_in_file"] == 4
    split = graph.split(graph.default_split, 0)
    assert [part.tolist() for part in (split.train, split.val, split.test)] == [[0, 4], [1], [6]]
    assert graph.facts["licence"] == "CC0: free"
    assert (tmp_path / "made/gpt_preds.csv").read_text().split("\n") == [*table.gpt_preds, ""]
    features = np.load(tmp_path / "made/ogb_features.npy", allow_pickle=False)
    assert features.dtype == np.float32
    assert features.tolist() == table.features.tolist()
    from stage_bench import located_yaml

    card = located_yaml.load(tmp_path / "made/dataset.yaml").value
    assert card["notes"] == table.notes
    assert card["sources"] == {"a.zip": "0e1234"}
    assert card["num_nodes"] == count
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made"]


def test_many_edges_are_written_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(folder_writing, "_EDGES", 7)
    edges = np.random.RandomState(0).randint(0, 3, (2, 50))
    folder_writing.write(table_of(edges=edges), tmp_path / "made", "made", {})
    lines = (tmp_path / "made/edges.csv").read_text().splitlines()
    assert lines == ["src,dst", *(f"{src},{dst}" for src, dst in edges.T)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"columns": {"t": ["x"]}}, "column 't': 1 rows, but there are 3 nodes"),
        ({"features": np.zeros((2, 2))}, "the features: 2 rows, but there are 3 nodes"),
        ({"gpt_preds": ["1"]}, "the GPT predictions: 1 rows, but there are 3 nodes"),
        ({"edges": np.array([[0], [3]])}, "an edge is 0 or 3, outside 0 to 2"),
        ({"edges": np.array([[-1], [2]])}, "an edge is -1 or 2, outside 0 to 2"),
        ({"labels": np.array([0, 1, 2])}, "a label is 0 or 2, outside -1 to 1"),
        ({"parts": {"train": np.array([9])}}, "the train part is 9 or 9, outside 0 to 2"),
    ],
)
def test_a_table_that_does_not_fit_together(tmp_path: Path, changes: dict[str, Any], message: str):
    with pytest.raises(StageBenchError) as caught:
        folder_writing.write(table_of(**changes), tmp_path / "made", "made", {})
    assert str(caught.value) == message
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_never_overwritten(tmp_path: Path):
    (tmp_path / "made").mkdir()
    with pytest.raises(StageBenchError, match="made: is there already"):
        folder_writing.write(table_of(), tmp_path / "made", "made", {})


def test_an_interrupted_write_leaves_nothing(tmp_path: Path):
    def titles() -> Any:
        yield "x"
        raise KeyboardInterrupt

    class Titles(list[str]):
        def __iter__(self) -> Any:
            return titles()

    with pytest.raises(KeyboardInterrupt):
        folder_writing.write(table_of(columns={"t": Titles(["x"] * 3)}), tmp_path / "made", "made", {})
    assert list(tmp_path.iterdir()) == []


def test_the_real_cora_from_files_like_its_own(real_data: Path, tmp_path: Path):
    """Real graph, texts and predictions, taken apart into upstream's files and put together again."""
    real = folder.load(real_data / "cora")
    nodes = [json.loads(line) for line in (real_data / "cora/nodes.jsonl").open(encoding="utf-8")]
    ids = [node["id"] for node in nodes]
    pairs = [line.split(",") for line in (real_data / "cora/edges.csv").read_text().splitlines()[1:]]
    upstream = tmp_path / "upstream"
    samples.cora(
        upstream / "cora_orig",
        [(node["id"], node["label"]) for node in nodes],
        [(ids[int(dst)], ids[int(src)]) for src, dst in pairs],
    )
    listed = []
    for node in nodes[::-1]:
        name = f"http:##www.x.org#~{node['id']}.ps"
        samples.extraction(upstream / "cora_orig", name, node["title"] or None, node["abstract"] or None)
        listed.append(f"{node['id']}\t{name}\tx\n")
    samples.put(upstream / "cora_orig/mccallum/cora/papers", "".join(listed))
    samples.put(upstream / "gpt_preds.csv", (real_data / "cora/gpt_preds.csv").read_bytes())
    table = cora.read(upstream)
    folder_writing.write(table, tmp_path / "cora", "cora", {})
    made = folder.load(tmp_path / "cora")
    assert made.fingerprint == real.fingerprint
    assert list(made.label_names) == list(real.label_names)
    assert (tmp_path / "cora/edges.csv").read_text() == (real_data / "cora/edges.csv").read_text()
    assert table.notes == ["44 papers without a title", "318 papers without an abstract"]
