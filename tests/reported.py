"""A hand-made report with a bit of everything, for tests of what is made of reports; and one that is huge."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from stage_bench.leaderboard import published, report, rows
from stage_bench.leaderboard.plots.plot import Plot

HOSTILE = '</script><script>window.pwned=1</script><img src=x onerror="pwned=1">"\'&\u202e\u2028\x07{{7*7}}'
"""Text that means harm: markup, quotes, a line separator, a control character, a template."""

HOSTILE_BACKBONE = "<b onmouseover=pwned=1>gcn</b>"
CURVE = [0.31, 0.52, 0.664, 0.741, 0.802, 0.84, 0.861, 0.873, 0.881, 0.879, 0.883, 0.88]

_PUBLISHED = """\
paper,version,dataset,features,lm,backbone,n_runs,accuracy,std,std_kind,split,evidence,source,note
TAPE (arXiv 2305.19523),ICLR 2024,cora,tape,microsoft/deberta-base,SAGE,4,0.9290,0.0307,unstated,random-60-20-20,secondary,"main table, transcribed",Published value is suspect: scored on another split than it was trained on.
STAGE (arXiv 2407.12860),KaLLM 2024,cora,zero-shot,minilm,ensemble,4,0.8824,0.0155,unstated,random-60-20-20,secondary,a README,
A paper,v1,cora,zero-shot,minilm,GCN,10,0.8850,0.0110,std ddof=1,random-60-20-20,primary,its table 2,
A paper,v1,arxiv,zero-shot,minilm,GCN,10,0.7010,0.0020,std ddof=1,official,primary,its table 3,
"""  # noqa: E501
_TIMES = """\
paper,dataset,what,lm,seconds,hardware,evidence,source,note
STAGE (arXiv 2407.12860),cora,train one ensemble,Salesforce/SFR,26.8,one GPU,primary,a log,embedding time not included
"""
_SVG = (
    b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="360pt" height="180pt" viewBox="0 0 360 180">'
    b'<style type="text/css">*{stroke-linejoin:round}</style><rect width="360" height="180" style="fill:#fff"/>'
    b'<path d="M30 150L330 30" style="stroke:#0072b2;fill:none"/></svg>'
)


def run(name: str, **values: object) -> dict[str, object]:
    """A finished run on cora; keywords are columns of runs.csv."""
    row: dict[str, object] = dict.fromkeys(rows.RUN_COLUMNS)
    row |= {"id": name, "dataset": "cora", "split": "random-60-20-20", "features": "zero-shot", "llm": "minilm"}
    row |= {"instruction": "none", "backbone": "gcn", "kind": "train", "split_seed": 0, "init_seed": 0}
    row |= {"status": "ok", "test_accuracy": 0.8, "val_accuracy": 0.81, "train_accuracy": 0.95, "best_epoch": 11}
    row |= {"epochs": len(CURVE), "train_seconds": 2.0, "infer_seconds": 0.02, "load_seconds": 0.15}
    row |= {"embedding_id": "e1", "embed_seconds": 33.8, "peak_memory_mb": 597.2, "parameters": 50_439}
    row |= {"train_nodes": 1624, "val_nodes": 542, "test_nodes": 542, "hardware": "AMD EPYC, 2 cores, 24 GiB"}
    row |= {"dataset_fingerprint": "d1", "version": "0.2.0", "commit": "a" * 40}
    return row | values


def several(backbone: str, accuracies: list[float], prefix: str = "", **values: Any) -> list[dict[str, object]]:
    """Runs of seeds 0, 1, ... with these test accuracies; ids are `<prefix><backbone>-<seed>`."""
    official = values.get("split") == "official"
    return [
        run(
            f"{prefix}{backbone}-{seed}",
            backbone=backbone,
            split_seed=None if official else seed,
            init_seed=seed,
            test_accuracy=accuracy,
            val_accuracy=round(accuracy + 0.004, 4),
            split_fingerprint=f"{values.get('dataset', 'cora')}-{'official' if official else seed}",
            **values,
        )
        for seed, accuracy in enumerate(accuracies)
    ]


def runs() -> pd.DataFrame:
    """Two datasets: an ensemble, ties, a partial and a failed row, two LLMs, two instructions, other hardware."""
    arxiv: dict[str, Any] = {"dataset": "arxiv", "split": "official", "embedding_id": "e2", "embed_seconds": 905.0}
    nothing = {"status": "failed", "test_accuracy": None, "val_accuracy": None, "train_accuracy": None}
    energy = {"energy_joules": 812.5, "embed_joules": 1500.0}
    made = [
        *several("stage", [0.897, 0.903, 0.889, 0.901], kind="ensemble", train_seconds=17.7, parameters=800_035,
                 note="mean-probability of mlp, gcn, sage"),
        *several("gcn", [0.884, 0.892, 0.871, 0.889], **energy),
        *several("sage", [0.899, 0.888, 0.892, 0.883], train_seconds=1.15),
        *several("mlp", [0.832, 0.841, 0.822, 0.835], train_seconds=0.38),
        *several("gcn2", [0.884, 0.892, 0.871, 0.889], train_seconds=3.25),
        *several("gcn", [0.861, 0.870, 0.855, 0.866], prefix="e5-", llm="e5-base", instruction="graph-aware",
                 embedding_id="e3", embed_seconds=120.0, hardware="one H200", peak_memory_mb=2048.0),
        *several("gcn", [0.744, 0.751, 0.739, 0.748], prefix="tfidf-", features="tf-idf", llm="", instruction="",
                 embedding_id="e4", embed_seconds=0.4),
        *several("revgat", [0.893, 0.899], train_seconds=15.6),
        run("revgat-2", backbone="revgat", split_seed=2, init_seed=2, **nothing,
            error=f"out of memory: {HOSTILE}\nTraceback (most recent call last):\n  in train"),
        run("sign(s=4,p=2,t=1)-0", backbone="sign(s=4,p=2,t=1)", error="hidden is 33", **nothing),
        run("bad", backbone=HOSTILE_BACKBONE, instruction=HOSTILE, test_accuracy=0.42, val_accuracy=0.4, note=HOSTILE),
        *several("gcn", [0.702, 0.699, 0.704], prefix="arxiv-", **arxiv),
        *several("sage", [0.715, 0.712, 0.717], prefix="arxiv-", **arxiv),
        *several("mlp", [0.641, 0.644, 0.639], prefix="arxiv-", **arxiv),
        *several("stage", [0.731, 0.729, 0.733], prefix="arxiv-", kind="ensemble", **arxiv),
        run("arxiv-gcn2-0", backbone="gcn2", test_accuracy=None, val_accuracy=None, status="missing", **arxiv),
    ]  # fmt: skip
    return pd.DataFrame(made, columns=list(rows.RUN_COLUMNS))


def study(backbone: str, **values: Any) -> dict[str, Any]:
    """What tuning left of a backbone on cora."""
    trials = [("ok", 0.80, ""), ("pruned", None, "given up"), ("ok", 0.85, ""), ("failed", None, "out of memory: here")]
    history = [
        {
            **{"number": number, "values": {"lr": 0.01 * (number + 1), "dropout": 0.5, "batch_norm": True}},
            **{"state": state, "error": error, "val_accuracy": accuracy, "seconds": 2.0},
            "val_loss": None if accuracy is None else 1 - accuracy,
        }
        for number, (state, accuracy, error) in enumerate(trials)
    ]
    names = {"dataset": "cora", "split": "random-60-20-20", "features": "zero-shot", "llm": "minilm"}
    return {
        **{**names, "instruction": "none", "backbone": backbone, "history": history, "winner": 2},
        **{"metric": "val_accuracy", "asked": 4, "timeout": None, "sampler": "tpe", "pruner": "median"},
        **{"seeds": [0, 1], "ended": "trials", "starts_with_recipe": True, "importances_note": ""},
        "importances": {"lr": 0.6, "dropout": 0.4},
        **values,
    }


def details(frame: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """What run.json would say of every run but one; curves of training runs, weights of ensembles."""
    found: dict[str, dict[str, Any]] = {}
    for id_, kind, backbone, status in zip(frame["id"], frame["kind"], frame["backbone"], frame["status"], strict=True):
        if status == "missing" or id_ == "mlp-3":
            continue
        seed = id_.rsplit("-", 1)[-1]
        members = ("mlp", "gcn", "sage") if kind == "ensemble" and not id_.startswith("arxiv") else ()
        found[id_] = {
            "configuration": {
                "kind": kind,
                "backbone": {"name": backbone, "hidden": 128, "dropout": 0.5, "norm": None, "residual": True},
                "training": {"epochs": 200, "patience": 50, "lr": 0.01, "seed": 2**60},
                "prompt": HOSTILE if id_ == "bad" else "none",
            },
            "environment": {
                "versions": {"python": "3.11.9", "torch": "2.13.0", "dgl": "1.1.3"},
                "hardware": "AMD EPYC, 2 cores, 24 GiB",
                "commit": {"commit": "a" * 40, "dirty": False},
                "finished": f"2026-11-0{seed}T12:00:00" if seed.isdigit() else "",
            },
            "curve": [] if kind == "ensemble" or status == "failed" else [*CURVE[:3], math.nan, *CURVE[3:]],
            "weights": {f"{member}-{seed}": 1 / 3 for member in members},
        }
    return found


def plots() -> list[Plot]:
    where = {"dataset": "cora", "split": "random-60-20-20"}
    return [
        Plot(kind="time", alt=f"Accuracy against time. {HOSTILE}", name="cora.time", svg=_SVG, png=b"", **where),
        Plot(kind="accuracy", alt="Accuracy of each row.", name="cora.accuracy", svg=_SVG, png=b"", **where),
        Plot(kind="mean-ranks", alt="Mean ranks.", name="mean-ranks", svg=_SVG, png=b"", dataset="", split=""),
    ]


def example(folder: Path, **changes: Any) -> report.Report:
    """The report of `runs()`; folder: an empty one for published numbers. changes: of its Facts."""
    (folder / "numbers.csv").write_text(_PUBLISHED, encoding="utf-8")
    (folder / "time.csv").write_text(_TIMES, encoding="utf-8")
    facts: dict[str, Any] = {
        "suite": "demo",
        "description": "Cora and arXiv with MiniLM embeddings: what a GNN adds, and what it costs.",
        "source": "stage-bench, suite demo",
        "configuration": ("cora: 2,708 nodes, 10,556 directed edges, 7 classes", "hyperparameters: recipe default"),
        "left_out": (f"{HOSTILE} is left out",),
        "models": ({"name": "minilm", "source": "sentence-transformers/all-MiniLM-L6-v2", "dimension": "384",
                    "parameters": "22,713,216", "released": "2021-08", "licence": "apache-2.0"},),
        "studies": (study("gcn"), study("sage", asked=3)),
    }  # fmt: skip
    frame = runs()
    return report.make(
        report.Facts(**{**facts, **changes}),
        frame,
        published.load(["numbers"], folder),
        published.times(folder),
        details=details(frame),
    )


def huge(backbones: int = 1000, datasets: int = 10, seeds: int = 10) -> report.Report:
    """A report of backbones x datasets rows with `seeds` runs each."""
    made = []
    for dataset in range(datasets):
        for backbone in range(backbones):
            for seed in range(seeds):
                accuracy = 0.5 + 0.4 * ((backbone * 7919 + dataset * 31) % 10_007) / 10_007 + seed / 1000
                made.append(
                    run(
                        f"{dataset:04x}{backbone:06x}{seed:06x}",
                        dataset=f"data-{dataset}",
                        backbone=f"gcn(hidden={backbone})",
                        split_seed=seed,
                        init_seed=seed,
                        test_accuracy=accuracy,
                        val_accuracy=accuracy,
                        train_seconds=1 + backbone / 100,
                    )
                )
    frame = pd.DataFrame(made, columns=list(rows.RUN_COLUMNS))
    return report.make(report.Facts(suite="huge"), frame)
