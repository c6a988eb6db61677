"""From upstream files to a folder dataset: fetched or placed by hand, interrupted anywhere, once."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import upstream_samples as samples
from loopback import Server, serving
from stage_bench import located_yaml, registry
from stage_bench.datasets.folder import DatasetMissing
from stage_bench.datasets.spec import DatasetSpec, Source
from stage_bench.datasets.textgraph import TextGraph
from stage_bench.datasets.upstream import fetching, obtaining
from stage_bench.errors import StageBenchError

NAMED = ("cora", "pubmed", "ogbn-arxiv", "ogbn-products", "ogbn-products-subset", "tape-arxiv23")
PARTS = {"train": [0], "val": [1], "test": [2]}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(fetching, "PAUSES", (0.0,))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as started:
        yield started


def upstream(name: str, folder: Path) -> dict[str, bytes]:
    """The files of a dataset's sources, small; without predictions."""
    if name == "cora":
        samples.cora(folder, [("1", "Theory"), ("2", "Theory"), ("3", "Case_Based")], [("1", "2"), ("3", "2")])
        for id_ in "123":
            samples.extraction(folder, f"http:##x#{id_}.ps", f"Title {id_}", f"Abstract {id_}")
        papers = "".join(f"{id_}\thttp:##x#{id_}.ps\tx\n" for id_ in "321")
        samples.put(folder / "mccallum/cora/papers", papers)
        return {"cora_orig.zip": samples.zipped(folder, "cora_orig")}
    if name == "pubmed":
        records = [{"PMID": id_, "TI": f"Title {id_}", "AB": f"Abstract {id_}"} for id_ in "231"]
        samples.pubmed(folder, [("1", 1), ("2", 3), ("3", 1)], [("1", "2"), ("3", "2")], records)
        return {"PubMed_orig.zip": samples.zipped(folder, "PubMed_orig")}
    if name == "ogbn-arxiv":
        table = samples.tarred("titleabs.tsv", samples.TITLEABS.encode())
        return {"arxiv.zip": samples.zipped(samples.arxiv(folder), "arxiv"), "titleabs.tsv.gz": table}
    if name == "ogbn-products":
        products = samples.zipped(samples.products(folder / "products"), "products")
        uids = ("B00Y", "0001", "B00X")
        records: list[dict[str, Any]] = [{"uid": uid, "title": f"Title {uid}", "content": "c"} for uid in uids]
        samples.amazon(folder / "raw", records[:2], records[2:])
        return {"products.zip": products, "Amazon-3M.raw.zip": samples.zipped(folder / "raw", "Amazon-3M.raw")}
    make = samples.subset if name == "ogbn-products-subset" else samples.tape_arxiv23
    return {path.name: path.read_bytes() for path in make(folder).iterdir()}


def served(server: Server, name: str, tmp_path: Path) -> DatasetSpec:
    """The registered dataset, with small files from the server in place of its own."""
    spec = registry.get("datasets", name)
    contents = upstream(name, tmp_path / "samples" / name)
    required = {source.file for source in spec.sources if not source.optional}
    assert set(contents) == required
    for file, content in contents.items():
        server.put(f"/{name}/{file}", content)
    sources = tuple(replace(source, url=server.url(f"/{name}/{source.file}"), sha256="") for source in spec.sources)
    return replace(spec, sources=sources, nodes=None)


def load(spec: DatasetSpec, data: Path) -> TextGraph:
    graph: TextGraph = registry.resolve(spec.loader)(spec, data)
    return graph


@pytest.mark.parametrize("name", NAMED)
def test_every_named_dataset(server: Server, tmp_path: Path, name: str):
    spec, data = served(server, name, tmp_path), tmp_path / "data"
    steps: list[tuple[int, int, str]] = []
    lines = obtaining.obtain(spec, data, lambda done, total, what: steps.append((done, total, what)))
    assert lines[-1] == f"{name} is in {data / name}"
    assert [line for line in lines if line.startswith("fetched ")]
    optional = [line for line in lines if line.startswith("without ")]
    assert len(optional) == (name != "ogbn-products")
    for line in optional:
        assert line.startswith("without gpt_preds.csv, which is optional: http://127.0.0.1:")
    graph = load(spec, data)
    assert graph.name == name
    assert graph.texts is not None
    if name in ("cora", "pubmed"):
        assert list(graph.texts) == [f"Title: Title {id_}\nAbstract: Abstract {id_}" for id_ in "123"]
        assert graph.edges.T.tolist() == [[0, 1], [1, 0], [1, 2], [2, 1]]
    if name == "ogbn-arxiv":
        assert graph.texts[4] == "Title: Fifth title\nAbstract: Fifth abstract"
    if name == "ogbn-products":
        assert graph.texts[3] == "Title:\nTitle 0001\nContent:\n c"
    if name == "ogbn-products-subset":
        assert graph.texts[2] == "Title:\nnan\nContent:\n "
    if name == "tape-arxiv23":
        assert graph.texts[1] == "Title: \nAbstract: No title"
    assert graph.num_classes == {"ogbn-arxiv": 3, "ogbn-products": 3}.get(name, spec.classes)
    assert graph.default_split == spec.split
    assert graph.split(spec.split, 0).protocol == spec.split
    card = located_yaml.load(data / name / "dataset.yaml").value
    assert set(card["sources"]) == {source.file for source in spec.sources if not source.optional}
    kept = {path.name for path in (data / "upstream" / name).iterdir()}
    assert kept == {*card["sources"], "checksums.json", ".lock"}
    assert sorted(path.name for path in data.iterdir()) == [name, "upstream"]
    assert {what.split()[0] for _, _, what in steps} <= {"fetching", "unpacking", "reading", "writing"}
    assert [what for _, _, what in steps if what.startswith("reading")] == [f"reading {name}"]
    server.requests.clear()
    assert obtaining.obtain(spec, data) == []
    assert server.requests == []


def test_with_predictions(server: Server, tmp_path: Path):
    spec = served(server, "tape-arxiv23", tmp_path)
    server.put("/tape-arxiv23/gpt_preds.csv", b"24\n10,24\n\n30\n")
    obtaining.obtain(spec, tmp_path / "data")
    assert (tmp_path / "data/tape-arxiv23/gpt_preds.csv").read_text() == "24\n10,24\n\n30\n"


@pytest.mark.parametrize("unpacked", [False, True])
def test_files_placed_by_hand(tmp_path: Path, unpacked: bool):
    """Without a connection."""
    spec = registry.get("datasets", "ogbn-arxiv")
    spec = replace(spec, sources=tuple(source for source in spec.sources if not source.optional), nodes=None)
    data = tmp_path / "data"
    folder = obtaining.upstream_folder(data, spec.name)
    if unpacked:
        samples.arxiv(folder / "arxiv")
        samples.put(folder / "titleabs.tsv", samples.TITLEABS)
    else:
        for file, content in upstream(spec.name, tmp_path / "samples").items():
            folder.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(content)
    lines = obtaining.obtain(spec, data)
    if unpacked:
        assert lines[:2] == [
            "arxiv/ was there already: taken as it is",
            "titleabs.tsv was there already: taken as it is",
        ]
        assert (folder / "arxiv/raw/edge.csv.gz").exists()
    else:
        assert lines[0] == "arxiv.zip was there already: taken as it is"
        assert lines[1].startswith("arxiv.zip is not the published file: its sha256 is ")
    sources = located_yaml.load(data / spec.name / "dataset.yaml").value["sources"]
    assert list(sources) == (["titleabs.tsv"] if unpacked else ["arxiv.zip", "titleabs.tsv.gz"])
    assert load(spec, data).texts[0] == "Title: First title\nAbstract: First abstract"


def test_an_archive_and_the_same_unpacked(server: Server, tmp_path: Path):
    spec = served(server, "pubmed", tmp_path)
    samples.pubmed(tmp_path / "data/upstream/pubmed/PubMed_orig", [("1", 1)], [], [])
    (tmp_path / "data/upstream/pubmed/PubMed_orig.zip").write_bytes(server.files["/pubmed/PubMed_orig.zip"].body)
    with pytest.raises(StageBenchError, match=r"expected one file Pubmed-Diabetes\.NODE\.paper\.tab, found .*keep one"):
        obtaining.obtain(spec, tmp_path / "data")


def test_a_file_that_cannot_be_had(server: Server, tmp_path: Path):
    spec = served(server, "cora", tmp_path)
    del server.files["/cora/cora_orig.zip"]
    data = tmp_path / "data"
    with pytest.raises(StageBenchError) as caught:
        obtaining.obtain(spec, data)
    assert str(caught.value) == (
        f"{spec.sources[0].url}: the server answers 404 Not Found; download it in a browser and put cora_orig.zip into "
        f"{data / 'upstream' / 'cora'}"
    )
    assert not (data / "cora").exists()


def test_an_archive_that_is_damaged(server: Server, tmp_path: Path):
    spec = served(server, "cora", tmp_path)
    whole = server.files["/cora/cora_orig.zip"].body
    server.files["/cora/cora_orig.zip"].body = whole[:-100]
    with pytest.raises(StageBenchError, match=r"cora_orig\.zip: .*; delete it to fetch it again"):
        obtaining.obtain(spec, tmp_path / "data")
    server.files["/cora/cora_orig.zip"].body = whole
    with pytest.raises(StageBenchError, match="delete it to fetch it again"):
        obtaining.obtain(spec, tmp_path / "data")
    (tmp_path / "data/upstream/cora/cora_orig.zip").unlink()
    lines = obtaining.obtain(spec, tmp_path / "data")
    assert lines[1].startswith("cora_orig.zip is another file than was there before")
    assert load(spec, tmp_path / "data").num_nodes == 3


def test_files_of_another_dataset(server: Server, tmp_path: Path):
    spec = replace(served(server, "cora", tmp_path), nodes=2708)
    with pytest.raises(StageBenchError, match="the files hold 3 nodes, but cora has 2708; they are not the published"):
        obtaining.obtain(spec, tmp_path / "data")
    assert not (tmp_path / "data/cora").exists()


def test_a_folder_that_is_not_complete_is_not_touched(server: Server, tmp_path: Path):
    spec = served(server, "cora", tmp_path)
    samples.put(tmp_path / "data/cora/nodes.jsonl", "mine")
    with pytest.raises(StageBenchError, match=r"cora: is there, but holds no dataset\.yaml"):
        obtaining.obtain(spec, tmp_path / "data")
    assert server.requests == []
    assert (tmp_path / "data/cora/nodes.jsonl").read_text() == "mine"


def test_a_dataset_without_sources(tmp_path: Path):
    with pytest.raises(DatasetMissing, match=r"'wordnet' is not in the data folder .*; put it in the folder format"):
        obtaining.obtain(registry.get("datasets", "wordnet"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_data_folder_that_is_none(server: Server, tmp_path: Path):
    (tmp_path / "data").write_text("a file")
    with pytest.raises(StageBenchError, match=r"dataset 'cora': .*data.*: (Not a directory|File exists)"):
        obtaining.obtain(served(server, "cora", tmp_path), tmp_path / "data")


_CHILD = """
import sys, time
from pathlib import Path
from stage_bench.datasets.upstream import obtaining
from stage_bench.datasets.spec import DatasetSpec, Source
url, data, stop = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
def step(done, total, what):
    if what.startswith(stop) and (done > 0 or not stop.endswith('zip')):
        print(what, flush=True)
        time.sleep(60)
spec = DatasetSpec(name='cora', sources=(Source(file='cora_orig.zip', url=url, unpack=True),),
                   reader='stage_bench.datasets.upstream.cora:read')
obtaining.obtain(spec, data, step)
print('done', flush=True)
"""


def child(url: str, data: Path, stop: str) -> "subprocess.Popen[str]":
    """Another process that obtains cora, and waits in the step whose description begins with `stop`."""
    command = [sys.executable, "-c", _CHILD, url, str(data), stop]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("stop", ["fetching cora_orig.zip", "unpacking", "reading", "writing"])
def test_a_kill_leaves_what_the_next_call_goes_on_from(server: Server, tmp_path: Path, stop: str):
    spec, data = served(server, "cora", tmp_path), tmp_path / "data"
    with child(spec.sources[0].url, data, stop) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(stop)
        process.send_signal(signal.SIGKILL)
    # What a kill in the middle of unpacking or writing leaves.
    samples.put(data / "upstream/cora/unpacked/cora_orig/cora.content", "half")
    samples.put(data / ".cora.abcd/nodes.jsonl", "half")
    samples.put(data / ".cora-like.abcd/nodes.jsonl", "of another dataset")
    assert not (data / "cora").exists()
    obtaining.obtain(spec, data)
    assert load(spec, data).texts[2] == "Title: Title 3\nAbstract: Abstract 3"
    assert sorted(path.name for path in data.iterdir()) == [".cora-like.abcd", "cora", "upstream"]
    assert not (data / "upstream/cora/unpacked").exists()


def test_two_at_once_fetch_it_once(server: Server, tmp_path: Path):
    spec, data = served(server, "cora", tmp_path), tmp_path / "data"
    both = [child(spec.sources[0].url, data, "never") for _ in range(2)]
    assert [process.communicate(timeout=60)[0] for process in both] == ["done\n", "done\n"]
    assert server.requests == [("/cora/cora_orig.zip", None)]
    assert load(spec, data).num_nodes == 3


def test_the_catalog_says_where_everything_comes_from():
    for name in NAMED:
        spec = registry.get("datasets", name)
        assert callable(registry.resolve(spec.reader))
        assert all(source.url.startswith("https://") for source in spec.sources)
        assert len({source.file for source in spec.sources}) == len(spec.sources)
        assert [source.optional for source in spec.sources] == sorted(source.optional for source in spec.sources)
    digests = [source.sha256 for source in registry.get("datasets", "ogbn-arxiv").sources if not source.optional]
    assert [len(bytes.fromhex(digest)) for digest in digests] == [32, 32]


def test_a_dataset_of_ones_own(server: Server, tmp_path: Path):
    """A reader that a plug-in brings."""
    from stage_bench.datasets.upstream.table import Table

    def read(upstream: Path) -> Table:
        rows = (upstream / "rows.txt").read_text().split()
        return Table(
            columns={"t": rows},
            text="{t}",
            labels=np.arange(len(rows)) % 2,
            label_names=["even", "odd"],
            edges=np.array([[0, 1], [1, 2]]),
            parts={part: np.array(nodes) for part, nodes in PARTS.items()},
            origin="a test",
        )

    source = Source(file="rows.txt", url=server.put("/rows", b"one two three\n"))
    spec = DatasetSpec(name="own", sources=(source,), reader=read)
    obtaining.obtain(spec, tmp_path)
    graph = load(spec, tmp_path)
    assert graph.texts == ["one", "two", "three"]
    assert graph.default_split == "file"
