"""Out of memory: fewer rows at once where that changes nothing, else a failed job that says what to change."""

from __future__ import annotations

import io
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

import tiny
from stage_bench import out_of_memory, registry
from stage_bench.backbones.mlp import MLP
from stage_bench.backbones.options import MLPOptions
from stage_bench.execution import running
from stage_bench.runs.store import Store
from stage_bench.training import neighbors, passes

FEATURES = [{"name": "shallow", "dimension": 8}]


@pytest.fixture(autouse=True)
def nothing_noted():
    yield
    out_of_memory.taken()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    tiny.write_folder(tmp_path / "data", 120)
    return tmp_path


def carry_out(place: Path, **suite: Any) -> tuple[list[str], str]:
    standard = {"name": "tiny", "datasets": [{"name": "tiny", "path": "data"}], "seeds": 1, "training": {"epochs": 3}}
    (place / "suite.yaml").write_text(json.dumps({**standard, **suite}))
    folders = running.Folders(place, place / "results", place / "reports")
    plan = running.make_plan(place / "suite.yaml", folders)
    said = io.StringIO()
    jobs = running.todo(plan, folders, lambda line: None)
    return running.carry_out(plan, jobs, folders, "cpu", Console(file=said, width=500), 1), said.getvalue()


# --- what it looks like, and halves ---


def test_the_errors_of_numpy_and_torch_are_known():
    with pytest.raises(MemoryError) as numpys:
        np.empty(1 << 58, dtype=np.float64)
    with pytest.raises(RuntimeError) as torchs:
        torch.empty(1 << 58)
    cudas = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has ...")
    assert all(out_of_memory.happened(error) for error in (numpys.value, torchs.value, cudas))
    assert not any(out_of_memory.happened(error) for error in (ValueError("no"), RuntimeError("shape mismatch")))


def test_halves_and_their_halves_come_in_order():
    asked = []

    def do(start: int, stop: int) -> list[int]:
        asked.append((start, stop))
        if stop - start > 3:
            raise MemoryError
        return list(range(start, stop))

    parts = out_of_memory.in_parts(do, 11, "rows")
    assert [row for part in parts for row in part] == list(range(11))
    assert max(map(len, parts)) <= 3
    assert asked[:3] == [(0, 11), (0, 5), (0, 2)]
    assert out_of_memory.taken() == "out of memory, so at last 2 rows at once"
    assert out_of_memory.taken() == ""


def test_another_error_passes_through_and_so_does_one_row_too_many():
    def wrong(start: int, stop: int) -> int:
        raise ValueError("wrong")

    def never(start: int, stop: int) -> int:
        raise MemoryError(f"{stop - start}")

    with pytest.raises(ValueError, match="wrong"):
        out_of_memory.in_parts(wrong, 8, "rows")
    with pytest.raises(MemoryError, match="1"):
        out_of_memory.in_parts(never, 8, "rows")


# --- embeddings ---


def hashing(most: int, sizes: list[int]) -> type:
    """An LLM with memory for so many texts at once; `sizes` lists what it was asked for."""
    lock = threading.Lock()

    class Hashing:
        def encode(self, texts: list[str]) -> np.ndarray:
            with lock:
                sizes.append(len(texts))
            if len(texts) > most:
                raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9")
            return np.array([[len(text), text.count("e"), hash(text[:3]) % 7] for text in texts], dtype=np.float32)

    return Hashing


def vectors(place: Path) -> np.ndarray:
    (folder,) = (place / "results" / "embeddings").iterdir()
    return np.load(folder / "vectors.npy")


@pytest.mark.parametrize("most", [5, 1])
def test_texts_are_embedded_in_smaller_batches_with_the_same_result(own_registry, tmp_path, most: int):
    made = {}
    for name, limit in (("all", 1000), ("few", most)):
        here = tmp_path / name
        tiny.write_folder(here / "data", 40)
        sizes: list[int] = []
        registry._registered["llms"].clear()
        registry.register_llm(name="hashing", summary="", dimension=3)(hashing(limit, sizes))
        failed, said = carry_out(here, llms=["hashing"], backbones=["mlp"])
        assert not failed
        made[name] = vectors(here)
    assert np.array_equal(made["all"], made["few"])
    assert max(sizes) > most >= min(sizes)
    assert f"out of memory, so at last {min(size for size in sizes if size <= most)} texts at once" in said


def test_one_text_that_is_too_much_is_a_failure_with_advice(own_registry, place):
    registry.register_llm(name="hashing", summary="", dimension=3)(hashing(0, []))
    failed, _ = carry_out(place, llms=["hashing"], backbones=["mlp"])
    assert len(failed) == 2, "the embedding, and what was to be trained on it"
    assert "llm 'hashing': out of memory with one text at a time (the longest has" in failed[0]
    assert failed[0].endswith("; choose dtype: bfloat16, a smaller max_length or another device")
    assert failed[1].count("choose") == 1


# --- inference ---


def logits(place: Path) -> dict[str, np.ndarray]:
    store = Store(place / "results")
    return {run.backbone: store.predictions(run.id)["logits"] for run in tiny.records(place)}


BACKBONES = [
    {"name": "mlp", "hidden": 8},
    {"name": "sage", "hidden": 8, "batching": "neighbor", "batch_size": 32},
    {"name": "gat", "hidden": 4, "heads": 2, "batching": "neighbor", "batch_size": 32},
]


def test_predictions_are_made_of_fewer_nodes_at_once_with_the_same_result(tmp_path, monkeypatch):
    tiny.write_folder(tmp_path / "data", 120)
    assert not carry_out(tmp_path, features=FEATURES, backbones=BACKBONES)[0]
    expected = logits(tmp_path)
    (tmp_path / "results").rename(tmp_path / "before")

    original = neighbors.NeighborPasses._hop

    def hop(self: Any, own: Any, *given: Any) -> Any:
        def short(graph: Any, x: Any) -> Any:
            if graph.num_dst_nodes() > 30:
                raise MemoryError
            return own(graph, x)

        return original(self, short, *given)

    monkeypatch.setattr(neighbors.NeighborPasses, "_hop", hop)
    forward = MLP.forward

    def few(self: Any, graph: Any, x: Any) -> Any:
        if len(x) > 30 and not self.training:
            raise MemoryError
        return forward(self, graph, x)

    monkeypatch.setattr(MLP, "forward", few)
    failed, said = carry_out(tmp_path, features=FEATURES, backbones=BACKBONES)
    assert not failed
    assert said.count("out of memory, so at last") == 3
    assert said.count("nodes at once") == 3
    made = logits(tmp_path)
    for backbone, array in expected.items():
        np.testing.assert_allclose(made[backbone].astype(float), array.astype(float), atol=2e-3)  # stored as float16


def test_training_itself_is_never_cut_down(own_registry, place):
    """Other batches would be another model."""

    @registry.register_backbone(name="huge", summary="", options=MLPOptions)
    class Huge(MLP):
        def forward(self, graph: Any, x: Any) -> Any:
            return super().forward(graph, x) + torch.empty(1 << 58)[0]

    failed, _ = carry_out(place, features=FEATURES, backbones=["huge"])
    assert len(failed) == 1
    assert "out of memory: RuntimeError" in failed[0]
    assert failed[0].endswith(
        "choose fewer --workers, a smaller hidden, batching: neighbor, or memory: for what is diffused"
    )
    assert passes._ROWS_AT_ONCE == 65_536
