"""`prepare`: fetch a suite's datasets, embed their texts; then `run` needs no network."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

import upstream_samples as samples
from loopback import Server, serving

CLASSES = ("Theory", "Case_Based")
PLUGIN = """
import numpy as np
import stage_bench
from stage_bench.datasets.spec import Source

stage_bench.register_dataset(
    name="small-cora",
    loader="stage_bench.datasets.folder:load_named",
    reader="stage_bench.datasets.upstream.cora:read",
    sources=(Source(file="cora_orig.zip", url="{url}", unpack=True),),
)


@stage_bench.register_llm(name="lengths", dimension=2)
class Lengths:
    def encode(self, texts):
        return np.array([[len(text), 1.0] for text in texts])
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A suite on a dataset of a plug-in, and what the plug-in's address serves: 20 papers in Cora's files."""
    papers = [(str(number), CLASSES[number % 2]) for number in range(20)]
    folder = samples.cora(tmp_path / "samples", papers, [(str(n), str(n + 2)) for n in range(18)])
    for id_, _ in papers:
        samples.extraction(folder, f"{id_}.ps", f"Title {id_}", "word " * int(id_))
    samples.put(folder / "mccallum/cora/papers", "".join(f"{id_}\t{id_}.ps\tx\n" for id_, _ in papers))
    suite = """
        name: s
        plugins: [plugin.py]
        datasets: [small-cora]
        llms: [lengths]
        backbones: [mlp]
        seeds: 1
        training: {epochs: 3}
    """
    (tmp_path / "suite.yaml").write_text(dedent(suite))
    return tmp_path


def serve(server: Server, place: Path) -> None:
    url = server.put("/cora_orig.zip", samples.zipped(place / "samples", "cora_orig"))
    (place / "plugin.py").write_text(PLUGIN.replace("{url}", url))


def test_prepare_fetches_and_embeds_and_run_needs_no_network(stage_bench, place):
    data = place / "data"
    with serving() as server:
        serve(server, place)
        code, out, err = stage_bench("prepare", place / "suite.yaml", "--data", data)
        assert code == 0, err
        assert "fetching cora_orig.zip" in err
        assert f"small-cora is in {data / 'small-cora'}" in err
        assert "20 texts, dimension 2" in err
        assert len(server.requests) == 1
        code, out, err = stage_bench("prepare", place / "suite.yaml", "--data", data)
        assert (code, len(server.requests)) == (0, 1), "what is there is not fetched again"
    code, out, err = stage_bench("run", place / "suite.yaml", "--data", data)
    assert code == 0, err
    assert "mlp" in out
    code, out, err = stage_bench("show", "dataset", data / "small-cora")
    assert "cora_orig.zip" in out, "where it came from stands in the card"


def test_run_says_how_to_get_what_is_not_there(stage_bench, place):
    (place / "plugin.py").write_text(PLUGIN.replace("{url}", "https://example.invalid/cora_orig.zip"))
    code, _, err = stage_bench("run", place / "suite.yaml", "--data", place / "data")
    assert code == 2
    assert err.count("\n") == 1
    assert (
        "fetch it with `stage-bench prepare SUITE`, or put cora_orig.zip into <data folder>/upstream/small-cora/" in err
    )


def test_what_cannot_be_fetched_stops_unless_it_is_optional(stage_bench, place):
    with serving() as server:
        (place / "plugin.py").write_text(PLUGIN.replace("{url}", server.url("/nothing.zip")))
        code, _, err = stage_bench("prepare", place / "suite.yaml", "--data", place / "data")
        assert code == 2
        assert err.splitlines()[-1].startswith(f"error: {place / 'suite.yaml'}:4:")
        assert "404" in err
        text = (
            (place / "suite.yaml").read_text().replace("[small-cora]", "[api-docs, {name: small-cora, optional: true}]")
        )
        (place / "suite.yaml").write_text(text)
        code, _, err = stage_bench("prepare", place / "suite.yaml", "--data", place / "data")
        assert code == 0, err
        assert "small-cora cannot be had and is optional: " in err
        assert "small-cora is left out" in err
