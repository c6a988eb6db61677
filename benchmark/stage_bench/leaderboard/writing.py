"""A report on disk: leaderboard.csv, leaderboard.md, runs.csv and the plots."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from stage_bench.leaderboard import feature_costs, plots, svg, tuning, tuning_plots
from stage_bench.leaderboard import published as published_numbers
from stage_bench.leaderboard.board import build, table_keys, to_csv
from stage_bench.leaderboard.files import replace_text
from stage_bench.leaderboard.rows import check_runs, runs_csv
from stage_bench.leaderboard.tables import markdown

_log = logging.getLogger(__name__)


def write(
    folder: Path,
    suite: str,
    runs: pd.DataFrame,
    published: pd.DataFrame | None = None,
    *,
    source: str | None = None,
    configuration: Sequence[str] = (),
    left_out: Sequence[str] = (),
    published_times: pd.DataFrame | None = None,
    versions: Mapping[str, str] | None = None,
    models: Sequence[Mapping[str, str]] = (),
    studies: Sequence[Mapping[str, Any]] = (),
) -> list[Path]:
    """Write the report of `runs` (a frame with RUN_COLUMNS) to `folder`; the paths written, in a fixed order.

    `published` holds rows of `published.load`, `published_times` those of `published.times`; `source` is what
    reproduced rows say about their origin; `configuration` are sentences on how the runs were made; `left_out` about
    what is missing from the board; `versions` maps software to versions, by default what the runs recorded; `models`
    are facts about the embedding models (`tables.MODEL_FACTS`); `studies` what tuning left (`tuning.markdown`). Each
    file is replaced as a whole, and the same arguments give the same bytes. Without matplotlib there are no plots, and
    the log says how to get them.
    """
    runs = check_runs(runs)
    rows, split_mismatches = published_numbers.select(
        published_numbers.none() if published is None else published, table_keys(runs)
    )
    board = build(runs, rows, source or f"stage-bench, suite {suite}")
    names = plots.file_names(board) if plots.available() else {}
    trajectories = tuning_plots.file_names(studies) if plots.available() else {}
    page = markdown(
        board,
        suite=suite,
        runs_note=_count(runs),
        configuration=configuration,
        left_out=left_out,
        published_left_out=split_mismatches,
        published_times=published_times,
        versions=_versions(runs) if versions is None else versions,
        plots={key: f"plots/{name}" for key, name in names.items()},
        models=models,
        sections=[*feature_costs.markdown(runs), *tuning.markdown(studies, trajectories)],
    )
    paths = [
        replace_text(folder / "leaderboard.csv", to_csv(board)),
        replace_text(folder / "leaderboard.md", page),
        replace_text(folder / "runs.csv", runs_csv(runs)),
    ]
    if not plots.available():
        _log.warning(svg.ADVICE)
    for (dataset, split), name in names.items():
        path = folder / "plots" / name
        plots.accuracy_time(board[(board["dataset"] == dataset) & (board["split"] == split)], path)
        paths.append(path)
    for key, name in trajectories.items():
        path = folder / "plots" / name
        tuning_plots.trajectories([study for study in studies if tuning.key(study) == key], path)
        paths.append(path)
    return paths


def _count(runs: pd.DataFrame) -> str:
    failed, missing = (int((runs["status"] == status).sum()) for status in ("failed", "missing"))
    noun = "run" if len(runs) == 1 else "runs"
    absent = f", {missing} not there yet" if missing else ""
    return f"{len(runs)} {noun}: {len(runs) - failed - missing} finished, {failed} failed{absent}."


def _versions(runs: pd.DataFrame) -> dict[str, str]:
    """The versions and commits that the runs recorded, each once."""
    recorded = {"stage-bench": "version", "commit": "commit"}
    found = {name: sorted(set(runs[column].tolist()) - {""}) for name, column in recorded.items()}
    return {name: " and ".join(values) for name, values in found.items() if values}
