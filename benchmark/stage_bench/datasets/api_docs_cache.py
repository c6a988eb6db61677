"""`api-docs` as a dataset: extracted once for each set of installed versions, kept in the user's cache folder."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import platformdirs
import yaml

from stage_bench import fingerprint
from stage_bench.datasets import api_docs, folder
from stage_bench.datasets.spec import DatasetSpec
from stage_bench.datasets.textgraph import TextGraph
from stage_bench.errors import StageBenchError


def load(spec: DatasetSpec, data: Path, *, undirected: bool = True) -> TextGraph:
    """The API graph of the packages as installed; `data` is not used, nothing is fetched.

    Raises:
        StageBenchError: a package is absent, or the cache folder cannot be written.
    """
    versions = api_docs.installed_versions()
    key = fingerprint.of_json([api_docs.EXTRACTOR_VERSION, versions])
    place = Path(platformdirs.user_cache_dir("stage-bench")) / "api-docs" / key
    if not (place / "dataset.yaml").is_file():
        _extract(place)
    return folder.load(place, spec.name, instructions=spec.instructions, undirected=undirected)


def _extract(place: Path) -> None:
    graph = api_docs.extract()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
    except OSError as error:
        raise StageBenchError(f"api-docs: the cache folder {place.parent} cannot be written: {error}") from None
    try:
        nodes = "".join(json.dumps(node, ensure_ascii=False) + "\n" for node in graph.nodes)
        (temporary / "nodes.jsonl").write_text(nodes, encoding="utf-8")
        edges = "src,dst\n" + "".join(f"{src},{dst}\n" for src, dst in graph.edges)
        (temporary / "edges.csv").write_text(edges, encoding="utf-8")
        card = {
            "name": "api-docs",
            "text": "{text}",
            "directed": True,
            "splits": {"protocol": "random-60-20-20"},
            "num_nodes": len(graph.nodes),
            "origin": "docstrings of " + ", ".join(f"{name} {version}" for name, version in graph.versions.items()),
            "licence": "BSD-3-Clause",
        }
        (temporary / "dataset.yaml").write_text(yaml.safe_dump(card, sort_keys=False), encoding="utf-8")
        try:
            temporary.rename(place)
        except OSError:  # another process was faster; the content is the same
            if not (place / "dataset.yaml").is_file():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
