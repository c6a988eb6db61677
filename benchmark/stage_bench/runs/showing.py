"""`show run`: one run as its record has it, for people and for machines."""

from __future__ import annotations

import math
import os
import re
import shutil
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from stage_bench import registry, seals
from stage_bench.errors import StageBenchError, shown
from stage_bench.runs.clock import ONCE, PHASES
from stage_bench.runs.holdings import title
from stage_bench.runs.record import RunRecord
from stage_bench.runs.store import Store

LEAST = 4
"""Characters of an id that are enough where no other begins so."""

_MOST = 20  # candidates that are named
_WIDTH = 100  # where there is no terminal
_BARS = "▁▂▃▄▅▆▇█"
_STAMP = re.compile(r".*-(\d{8}T\d{6})-\d+(?:-\d+)?\.log")
# Fields that lines under other names show, and one for machines.
_OF_ITS_OWN = ("commit", "curve", "metrics", "schema_version", "weights", seals.KEY)


def describe(results: Path, name: str) -> dict[str, Any]:
    """The record of a run, with `path`, the `log` that its traceback is in, and its `members` if it is an ensemble.

    name: the run's id, or its beginning.

    Raises:
        StageBenchError: there is no such run, or several begin so; its record or its predictions are damaged.
    """
    store = Store(results)
    id_ = _found(store, name)
    record = store.read(id_)
    if record is None:
        raise StageBenchError(f"{store.folder(id_)} has no run.json: the run was interrupted")
    facts = record.to_json()
    facts["path"] = str(store.folder(id_) / "run.json")
    facts["log"] = str(_log(results, record) or "") if record.status == "failed" else ""
    facts["members"] = _members(store, record)
    return facts


def _found(store: Store, name: str) -> str:
    """The id that is meant."""
    place = store.results / "runs"
    if not place.is_dir():
        raise StageBenchError(f"{place}: there is no such folder; name the results folder with --results")
    ids = sorted(entry.name for entry in os.scandir(place) if entry.is_dir() and not entry.name.startswith("."))
    if name in ids:
        return name
    if len(name) < LEAST:
        raise StageBenchError(f"'{shown(name)}' is too short for a run's id: at least {LEAST} characters")
    found = [id_ for id_ in ids if id_.startswith(name)]
    if not found:
        near = registry.nearest(name, ids)
        hint = f"; did you mean '{near}'?" if near else ""
        raise StageBenchError(
            f"no run '{shown(name)}' in {place}{hint} ({len(ids):,} are there; reports/<suite>/runs.csv has their ids)"
        )
    if len(found) > 1:
        lines = [_candidate(store, id_) for id_ in found[:_MOST]] + (["  ..."] if len(found) > _MOST else [])
        raise StageBenchError(f"'{shown(name)}' is the beginning of {len(found):,} runs:", *lines)
    return found[0]


def _candidate(store: Store, id_: str) -> str:
    record = store.get(id_)
    return f"  {id_}  {f'{record.status:<6}  {title(record)}' if record else 'damaged'}"


def _members(store: Store, record: RunRecord) -> list[dict[str, Any]]:
    """An ensemble's members, the heaviest first; weight: None where it came to none."""
    ids = record.content.get("members") if record.kind == "ensemble" else None
    found = []
    for id_ in ids if isinstance(ids, list) else []:
        id_ = str(id_)
        member = store.get(id_)
        what = {"run": title(member), "backbone": member.backbone} if member else {"run": "", "backbone": ""}
        status = member.status if member else "absent or damaged"
        found.append({"id": id_, "weight": record.weights.get(id_), "status": status, **what})
    return sorted(found, key=lambda member: -(_number(member["weight"]) or 0.0))


def _log(results: Path, record: RunRecord) -> Path | None:
    """The last log with a traceback of that job; one begins with the job's title on a line of its own."""
    wanted = f"{record.kind} {title(record)}\n"
    named = [(match[1], path) for path in (results / "logs").glob("*.log") if (match := _STAMP.fullmatch(path.name))]
    for _, path in sorted(named, reverse=True):
        try:
            with path.open(encoding="utf-8", errors="replace") as file:
                if wanted in file:
                    return path
        except OSError:
            continue
    return None


def text(facts: dict[str, Any]) -> str:
    """What `describe` found, in lines of the terminal's width."""
    width = shutil.get_terminal_size((_WIDTH, 24)).columns
    lines = [(key, values) for key, values in _lines(facts, width) if any(values)]
    margin = max(len(key) for key, _ in lines) + 2
    said = []
    for key, values in lines:
        rows = [row for value in values for row in _wrapped(value, max(20, width - margin))]
        said += [f"{key if number == 0 else '':<{margin}}{row}" for number, row in enumerate(rows)]
    return "\n".join(said)


def _wrapped(value: str, width: int) -> list[str]:
    """A line with an indentation keeps it."""
    indent = " " * (len(value) - len(value.lstrip(" ")) + 2)
    return textwrap.wrap(value, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _lines(facts: dict[str, Any], width: int) -> Iterable[tuple[str, list[str]]]:
    """What stands before a line, and the line; more of them where one is not enough."""
    metrics = facts["metrics"]
    told: set[str] = {"path", "log", "members", *_OF_ITS_OWN}

    def plain(*keys: str) -> Iterable[tuple[str, list[str]]]:
        for key in keys:
            told.add(key)
            if key in facts:
                yield key.replace("_", " "), [_value(facts[key])]

    yield from plain("id", "status", "error", "kind", "dataset", "split", "features", "llm", "instruction", "backbone")
    if facts["error"]:
        log = shown(facts["log"]) or "none of results/logs/*.log has its traceback"
        yield "log", [log]
    yield "seeds", [_seeds(facts)]
    accuracies = {part: metrics.get(f"{part}_accuracy") for part in ("test", "val", "train")}
    yield "accuracy", [_pairs({part: _fraction(value) for part, value in accuracies.items() if value is not None})]
    if "epochs" in metrics:
        yield "epochs", [_value(metrics["epochs"]) + _after(", best ", metrics.get("best_epoch"))]
    yield "validation", [_curve(facts["curve"], width)]
    yield "seconds", _seconds(facts["seconds"])
    yield "memory", [f"{memory:,.0f} MB at most" if (memory := _number(facts["peak_memory_mb"])) is not None else ""]
    parameters = metrics.get("parameters")
    yield "parameters", [f"{parameters:,}" if isinstance(parameters, int) else _value(parameters)]
    joules = _number(facts.get("energy_joules"))
    yield "energy", [f"{joules:,.4g} J for training and inference" if joules is not None else ""]
    told |= {"split_seed", "init_seed", "seconds", "peak_memory_mb", "energy_joules"}
    yield "members", [_member(member) for member in facts["members"]]
    yield from plain("note", "embedding_id", "embedding", "diffusion_id", "study_id", "answers_id", "answers")
    content = {key: value for key, value in facts["content"].items() if key not in ("kind", "members")}
    yield "content", [f"{shown(key)}: {value}" for key, item in content.items() if (value := _value(item))]
    told |= {"content", "versions"}
    yield from plain("split_fingerprint", "dataset_fingerprint", "predictions_sha256", "hardware")
    yield "versions", [", ".join(f"{shown(name)} {_value(value)}" for name, value in facts["versions"].items())]
    dirty = ", with changes that were not committed" if facts["commit"].get("dirty") else ""
    yield "commit", [_value(facts["commit"].get("commit")) + dirty]
    yield from plain("finished", *sorted(facts.keys() - told - {"finished"}))
    yield "record", [shown(facts["path"])]


def _seeds(facts: dict[str, Any]) -> str:
    split = "a fixed split" if facts["split_seed"] is None else f"split {facts['split_seed']}"
    return f"{split}, initialisation {_value(facts['init_seed'])}"


def _seconds(seconds: dict[str, Any]) -> list[str]:
    """Those of this run alone, and of work that others share with it."""
    known = {phase: f"{value:.4g}" for phase in PHASES if (value := _number(seconds.get(phase))) is not None}
    shared = _pairs({phase: value for phase, value in known.items() if phase in ONCE})
    own = _pairs({phase: value for phase, value in known.items() if phase not in ONCE})
    return [own, f"shared with other runs: {shared}" if shared else ""]


def _member(member: dict[str, Any]) -> str:
    weight = _number(member["weight"])
    share = f"{weight:.3f}  " if weight is not None else ""
    status = "" if member["status"] == "ok" else f"  ({member['status']})"
    return f"{share}{shown(member['id'])}  {member['run']}{status}"


def _curve(curve: Sequence[Any], width: int) -> str:
    """The validation accuracies of all epochs, and from where to where they go."""
    values = [value if (value := _number(each)) is not None else math.nan for each in curve]
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return ""
    scale = f" {min(known):.4f} to {max(known):.4f}"
    return sparkline(values, max(8, width - 24 - len(scale))) + scale


def sparkline(values: Sequence[float], width: int) -> str:
    """At most `width` bars from the least value to the largest; where values share a bar, it is the best one's.

    What is not finite leaves a gap.
    """
    count = min(width, len(values))
    groups = [values[place * len(values) // count : (place + 1) * len(values) // count] for place in range(count)]
    best = [max((value for value in group if math.isfinite(value)), default=math.nan) for group in groups]
    known = [value for value in best if math.isfinite(value)]
    if not known:
        return " " * count
    low, span = min(known), max(known) - min(known)

    def bar(value: float) -> str:
        if not math.isfinite(value):
            return " "
        # A level line is in the middle, neither best nor worst.
        return _BARS[round((value - low) / span * (len(_BARS) - 1)) if 0 < span < math.inf else len(_BARS) // 2 - 1]

    return "".join(map(bar, best))


def _after(before: str, value: Any) -> str:
    return "" if value is None else f"{before}{_value(value)}"


def _pairs(values: dict[str, str]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())


def _fraction(value: Any) -> str:
    return f"{number:.4f}" if (number := _number(value)) is not None else _value(value)


def _number(value: Any) -> float | None:
    try:
        return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _value(value: Any) -> str:
    """A value of a record on one line; empty where it says nothing."""
    if value is None or value == "":
        return ""
    if isinstance(value, dict):
        return ", ".join(f"{shown(key)}={_value(item) or 'none'}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(_value(item) for item in value)
    return shown(f"{value:.6g}" if isinstance(value, float) else value)
