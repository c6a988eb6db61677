"""One side of `train.py`, in a process of its own: the plain DGL loop, or the program.

    python worker.py plain|ours FOLDER             answers JSON lines: {"backbone", "values", "split", "seed"} -> a fit
    python worker.py plain-suite FOLDER RUNS.json  every seed's models, one after another, and their ensemble
    python worker.py exact|profile FOLDER RUNS.json

FOLDER is a dataset as `generated.save` wrote it.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from plain_dgl import Data, Split, accuracy, build, graph_for, train
from torch import Tensor, nn

# backbone, its and its training's options together, number of the split, seed
Fit = Callable[[str, dict[str, Any], int, int], dict[str, Any]]


def main() -> None:
    side, folder = sys.argv[1], Path(sys.argv[2])
    if side in ("plain", "ours"):
        fit = plain(folder) if side == "plain" else Program(folder).fit
        print("ready", torch.get_num_threads(), flush=True)
        for line in sys.stdin:
            asked = json.loads(line)
            print(json.dumps(fit(asked["backbone"], asked["values"], asked["split"], asked["seed"])), flush=True)
    else:
        runs = json.loads(Path(sys.argv[3]).read_text())
        do: dict[str, Callable[[Path, Any], Any]] = {"plain-suite": plain_suite, "exact": exact, "profile": profile}
        print(json.dumps(do[side](folder, runs)))


_SETTLING = 150  # passes; with momentum 0.1 all but 1e-7 of the statistics is then of this model


class _Epochs:
    """Seconds of each epoch and the page faults of all."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        self._last = time.perf_counter()

    def tick(self, *_: object) -> None:
        now = time.perf_counter()
        self.seconds.append(now - self._last)
        self._last = now

    def faults(self) -> float:
        """Page faults an epoch."""
        more = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - self._faults
        return more / len(self.seconds)


def plain(folder: Path) -> Fit:
    data = Data.load(folder)

    def fit(backbone: str, values: dict[str, Any], split: int, seed: int) -> dict[str, Any]:
        parts = Split.load(folder / f"split-{split}.npz")
        begin, epochs = time.perf_counter(), _Epochs()
        done = train(backbone, values, data, parts, seed, epochs.tick)
        return {
            "seconds": time.perf_counter() - begin,
            "prepare": 0.0,  # self loops are on the clock of the first epoch
            "epochs": epochs.seconds,
            "faults": epochs.faults(),
            "best_epoch": done.best_epoch,
            "val": done.val_accuracy,
            "test": done.test_accuracy,
        }

    return fit


class Program:
    """The program's training of one model, as `execution/runner.py` does it: all that is known of its insides here."""

    def __init__(self, folder: Path) -> None:
        from stage_bench.dgl_library import dgl
        from stage_bench.execution import devices
        from stage_bench.kernels import allocator

        self.folder = folder
        self.num_classes: int = json.loads((folder / "facts.json").read_text())["num_classes"]
        self.labels: np.ndarray = np.load(folder / "labels.npy")
        source, target = torch.from_numpy(np.load(folder / "edges.npy"))
        self.graph = dgl.graph((source, target), num_nodes=len(self.labels))
        # the file is mapped, as the cache does it; copied on writing, so that torch does not warn
        self.features = torch.from_numpy(np.load(folder / "features.npy", mmap_mode="c"))
        devices.choose("cpu").use_threads(len(self.labels))
        allocator.keep_memory()
        self._prepared: dict[str, Any] = {}

    def prepare(
        self, backbone: str, values: dict[str, Any]
    ) -> tuple[tuple[Any, Tensor], dict[str, Any], Callable[[], nn.Module], float]:
        """Graph and inputs, what builds a model for them, and the seconds of this fixed work, which is done once."""
        from stage_bench import registry

        spec = registry.get("backbones", backbone)
        kind, fields = registry.resolve(spec.module), registry.resolve(spec.options)
        options = fields(**{key: value for key, value in values.items() if key in fields.model_fields})
        key = f"{backbone} {options.model_dump_json()}"  # whatever the training's options are
        if key not in self._prepared:
            begin = time.perf_counter()
            graph, inputs = kind.prepare(self.graph, self.features, options)
            self._prepared[key] = graph, inputs, time.perf_counter() - begin
        graph, inputs, seconds = self._prepared[key]
        training = {key: value for key, value in values.items() if key not in fields.model_fields}
        return (graph, inputs), training, lambda: kind(inputs.shape[1], self.num_classes, options), seconds

    def fit(
        self,
        backbone: str,
        values: dict[str, Any],
        split: int,
        seed: int,
        model: nn.Module | None = None,
        on_epoch: Callable[[int], None] = lambda epoch: None,
    ) -> dict[str, Any]:
        """Train one model (`model`: instead of a new one)."""
        from stage_bench.runs.clock import Clock
        from stage_bench.training import loop
        from stage_bench.training.options import TrainingOptions

        prepared, training, make, prepare_seconds = self.prepare(backbone, values)
        with np.load(self.folder / f"split-{split}.npz") as parts:
            train_nodes, val, test = parts["train"], parts["val"], parts["test"]
        loop.warm_up()
        begin, epochs = time.perf_counter(), _Epochs()

        def stepped(epoch: int, most: int, best: float) -> None:
            epochs.tick()
            on_epoch(epoch)

        task = loop.task(*prepared, self.labels, train_nodes, val, self.num_classes)
        done = loop.fit(lambda: model or make(), task, TrainingOptions(**training), seed, Clock(), stepped)
        return {
            "seconds": time.perf_counter() - begin,
            "prepare": prepare_seconds,
            "epochs": epochs.seconds,
            "faults": epochs.faults(),
            "best_epoch": done.best_epoch,
            "val": done.val_accuracy,
            "test": float((done.logits[test].argmax(axis=1) == self.labels[test]).mean()),
        }

    def like(self, backbone: str, values: dict[str, Any], state: dict[str, Tensor]) -> nn.Module:
        """A model with the weights of the plain one; DGL's GraphConv keeps its matrix the other way round."""
        model = self.prepare(backbone, values)[2]()
        turned = {
            name.replace(".gnn_modules", ""): weight.T if backbone == "gcn" and weight.dim() == 2 else weight
            for name, weight in state.items()
        }
        model.load_state_dict({name: weight.clone() for name, weight in turned.items()})
        return model


def plain_suite(folder: Path, runs: list[list[dict[str, Any]]]) -> list[dict[str, float]]:
    """Test accuracies, a dictionary a seed; its ensemble is the mean of the models' probabilities."""
    data = Data.load(folder)
    found = []
    for members in runs:
        split = Split.load(folder / f"split-{members[0]['split']}.npz")
        done = {run["backbone"]: train(run["backbone"], run["values"], data, split, run["seed"]) for run in members}
        mean = torch.stack([member.logits.softmax(dim=1) for member in done.values()]).mean(dim=0)
        right = {name: member.test_accuracy for name, member in done.items()}
        found.append({**right, "stage": accuracy(mean, data.labels, split.test)})
    return found


def exact(folder: Path, runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Both sides from the same weights, without dropout: how far their logits are apart after the steps.

    `training` and `evaluation`: the largest difference over the largest logit, in either mode. Evaluation comes after
    many passes that change nothing but batch norm's running statistics. Until those are settled the sides must differ:
    GroupRevRes counts each batch three times; and a bias before batch norm has no gradient but rounding errors, of
    which Adam makes whole steps, to which the statistics have to follow.
    """
    data, split, program = Data.load(folder), Split.load(folder / "split-0.npz"), Program(folder)
    found = []
    for run in runs:
        backbone, values = run["backbone"], run["values"]
        torch.manual_seed(run["seed"])
        model = build(backbone, data.features.shape[1], data.num_classes, values)
        own = program.like(backbone, values, model.state_dict())
        graph = graph_for(backbone, data.graph)
        after: dict[str, dict[str, Tensor]] = {}

        def note(side: str, epoch: int, model: nn.Module, inputs: Any, after: Any = after, run: Any = run) -> None:
            if epoch == run["values"]["epochs"]:
                with torch.no_grad():
                    passes = [model.train()(*inputs) for _ in range(_SETTLING)]
                    after[side] = {"training": passes[0], "evaluation": model.eval()(*inputs)}

        plain_note = partial(note, "plain", inputs=(graph, data.features))
        train(backbone, values, data, split, run["seed"], plain_note, model)
        own_note = partial(note, "ours", model=own, inputs=program.prepare(backbone, values)[0])
        program.fit(backbone, values, 0, run["seed"], own, own_note)
        distance = {mode: _distance(after["plain"][mode], after["ours"][mode]) for mode in after["plain"]}
        found.append({"backbone": backbone, **distance})
    return found


def _distance(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max() / one.abs().max())


# What an operation is counted as, by the first of these that its name or that of an operation around it begins with.
_KINDS = (
    ("sparse products", ("dgl::",)),
    ("dropout", ("aten::dropout", "aten::native_dropout", "aten::bernoulli", "aten::randperm")),
    ("norm", ("aten::batch_norm", "aten::native_batch_norm", "aten::_batch_norm")),
    ("optimiser", ("Optimizer.",)),
    ("dense products", ("aten::linear", "aten::mm", "aten::addmm", "aten::matmul", "aten::bmm")),
    ("indexing", ("aten::index", "aten::_index", "aten::scatter", "aten::gather", "aten::embedding")),
    ("elementwise and copies", ("aten::",)),
)


def profile(folder: Path, runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Shares of the plain loop's time by kind of operation; the first epochs are left out."""
    data, split = Data.load(folder), Split.load(folder / "split-0.npz")
    found = []
    for run in runs:
        epochs = run["values"]["epochs"]
        watch: dict[str, Any] = {}

        def on_epoch(epoch: int, model: nn.Module, watch: dict[str, Any] = watch, epochs: int = epochs) -> None:
            if epoch == 1:
                watch["profile"] = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU])
                watch["profile"].__enter__()
                watch["epochs"], watch["begin"] = _Epochs(), time.perf_counter()
            else:
                watch["epochs"].tick()
                if epoch == epochs:
                    watch["seconds"] = time.perf_counter() - watch["begin"]
                    watch["profile"].__exit__(None, None, None)

        with _dgl_is_seen():
            train(run["backbone"], run["values"], data, split, run["seed"], on_epoch)
        shares = _shares(watch["profile"], watch["seconds"])
        seconds = watch["seconds"] / (epochs - 1)
        found.append(
            {"backbone": run["backbone"], "seconds": seconds, "faults": watch["epochs"].faults(), "shares": shares}
        )
    return found


@contextmanager
def _dgl_is_seen() -> Iterator[None]:
    """Give DGL's kernels, of which the profiler knows nothing, a name: `dgl::...`."""
    from dgl.backend.pytorch import sparse

    names = ("_gspmm", "_gsddmm", "_edge_softmax_forward", "_edge_softmax_backward", "_segment_reduce")
    kernels = {name: getattr(sparse, name) for name in names}

    def seen(name: str, kernel: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **more: Any) -> Any:
            with torch.profiler.record_function(f"dgl::{name}"):
                return kernel(*arguments, **more)

        return run

    for name, kernel in kernels.items():
        setattr(sparse, name, seen(name, kernel))
    try:
        yield
    finally:
        for name, kernel in kernels.items():
            setattr(sparse, name, kernel)


def _shares(profiled: torch.profiler.profile, seconds: float) -> dict[str, float]:
    spent: dict[str, float] = defaultdict(float)
    for event in profiled.events():  # type: ignore[no-untyped-call]
        spent[_kind(event)] += event.self_cpu_time_total / 1e6 / seconds
    spent.pop("", None)
    spent["the rest (Python, bookkeeping)"] = 1 - sum(spent.values())
    return dict(spent)


def _kind(event: Any) -> str:
    names = []
    while event is not None:
        names.append(event.name)
        event = event.cpu_parent
    for kind, beginnings in _KINDS:
        if any(name.startswith(beginnings) for name in names):
            return kind
    return ""


if __name__ == "__main__":
    main()
