"""Hand-made rows for leaderboards: runs of every kind, and published numbers."""

from pathlib import Path
from typing import Any

import pandas as pd

from stage_bench.leaderboard import board, published, report, rows

PUBLISHED = """\
paper,version,dataset,features,lm,backbone,n_runs,accuracy,std,std_kind,split,evidence,source,note
TAPE (arXiv 2305.19523),ICLR 2024,cora,tape,microsoft/deberta-base,SAGE,4,0.9290,0.0307,unstated,random-60-20-20,secondary,"main table, transcribed",Published value is suspect: scored on another split.
TAPE (arXiv 2305.19523),ICLR 2024,cora,tape,microsoft/deberta-base,RevGAT,4,0.9280,0.0275,unstated,random-60-20-20,secondary,"main table, transcribed",Published value is suspect: scored on another split.
STAGE (arXiv 2407.12860),KaLLM 2024,cora,zero-shot,Salesforce/SFR,ensemble,4,0.8824,0.0155,unstated,random-60-20-20,secondary,a README,
RevGNN (arXiv 2106.07476),README,cora,ogb-features,,RevGAT + label reuse,10,0.8402,0.0018,std ddof=1,random-60-20-20,primary,its README,
TAPE (arXiv 2305.19523),ICLR 2024,cora,llm-zero-shot,gpt-3.5-turbo,none,,0.6769,,,random-60-20-20,secondary,"main table, transcribed",
TAPE (arXiv 2305.19523),ICLR 2024,cora,shallow,,GCN,4,0.8000,,,public,secondary,"main table, transcribed",
TAPE (arXiv 2305.19523),ICLR 2024,pubmed,shallow,,GCN,4,0.8031,0.0425,unstated,random-60-20-20,secondary,"main table, transcribed",
"""  # noqa: E501
TIMES = """\
paper,dataset,what,lm,seconds,hardware,evidence,source,note
STAGE (arXiv 2407.12860),cora,train one ensemble,Salesforce/SFR,26.8,one GPU,primary,a log,embedding time not included
STAGE (arXiv 2407.12860),pubmed,train one ensemble,Salesforce/SFR,50.8,one GPU,primary,a log,
"""


def run(name: str, **values: object) -> dict[str, object]:
    row: dict[str, object] = dict.fromkeys(rows.RUN_COLUMNS)
    row |= {"id": name, "dataset": "cora", "split": "random-60-20-20", "features": "zero-shot", "llm": "minilm"}
    row |= {"instruction": "default", "backbone": "gcn", "kind": "train", "split_seed": 0, "init_seed": 0}
    row |= {"status": "ok", "test_accuracy": 0.8, "val_accuracy": 0.81, "train_seconds": 2.0, "infer_seconds": 0.5}
    return row | values


def several(backbone: str, accuracies: list[float], **values: object) -> list[dict[str, object]]:
    return [
        run(f"{backbone}-{seed}", backbone=backbone, split_seed=seed, init_seed=seed, test_accuracy=accuracy, **values)
        for seed, accuracy in enumerate(accuracies)
    ]


def frame(*runs: dict[str, object]) -> pd.DataFrame:
    return pd.DataFrame(list(runs), columns=list(rows.RUN_COLUMNS))


def built(*runs: dict[str, object]) -> list[dict[str, Any]]:
    return rows.records(board.build(frame(*runs), published.none(), "test"))


def by_backbone(*runs: dict[str, object]) -> dict[str, dict[str, Any]]:
    return {row["backbone"]: row for row in built(*runs)}


def made(*runs: dict[str, object] | pd.DataFrame, folder: Path | None = None, **facts: Any) -> report.Report:
    """The report of some runs; folder: with published numbers and times (`write_published`)."""
    given = runs[0] if len(runs) == 1 and isinstance(runs[0], pd.DataFrame) else frame(*runs)  # type: ignore[arg-type]
    numbers = published.load(["numbers"], folder, {"Salesforce/SFR": "sfr"}) if folder else None
    times = published.times(folder) if folder else None
    return report.make(report.Facts(**{"suite": "golden", **facts}), given, numbers, times)


def write_published(folder: Path) -> Path:
    folder.mkdir()
    (folder / "numbers.csv").write_text(PUBLISHED, encoding="utf-8")
    (folder / "time.csv").write_text(TIMES, encoding="utf-8")
    return folder


def example() -> pd.DataFrame:
    """Rows of every kind: complete, tied, partial, failed, of one run, an ensemble, two splits, hostile text."""
    embedding = {"embedding_id": "e1", "embed_seconds": 60.0, "peak_memory_mb": 512.4, "parameters": 49_927}
    common = {**embedding, "hardware": "2 CPU cores", "version": "0.1.0", "commit": "abc1234"}
    studies = {"study_id": "s1", "tune_seconds": 30.0}
    runs = [
        *several("gcn", [0.88, 0.90, 0.87, 0.89], **common, **studies),
        *several("sage", [0.88, 0.90, 0.87, 0.89], **common),
        *several("mlp", [0.82, 0.83, 0.81, 0.84], **common),
        *several("stage", [0.89, 0.91, 0.88, 0.885], kind="ensemble", study_id="s1+s2", tune_seconds=70.0, **common),
        *several("revgat", [0.86, 0.87], **common),
        run("revgat-2", backbone="revgat", split_seed=2, init_seed=2, status="failed", test_accuracy=None,
            error="<script>alert(1)</script> | out of `memory`\nTraceback ..."),
        run("gat-0", backbone="gat", status="failed", test_accuracy=None, val_accuracy=None, error="no | such *gat*"),
        run("one", backbone="sign(s=3,p=3,t=0)", features="tf-idf", llm="", instruction="", note="by hand & slow"),
        run("official", split="public", backbone="gcn", test_accuracy=0.8141, hardware="1 GPU"),
        run("odd", dataset="a|b/<i>", split="x", backbone="my_gcn", train_seconds=None, test_accuracy=0.5),
    ]  # fmt: skip
    return frame(*runs)
