"""When a run is disturbed: moments drawn over its phases, on what is seen of them and on the clock alone."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable

from ledger import ID
from watching import PHASES, Moment

AT_ANY_TIME = "any"

_TEMPORARY = r"\.[\w.-]+"
# What is seen of a phase, how many such events are let pass at most, and how many seconds later it may still go on.
_SEEN: dict[str, list[tuple[str, str, int, float]]] = {
    "starting": [("", "", 0, 3.0), ("renamed to", r"results/logs/.+\.json", 0, 1.0)],
    "embedding": [
        ("made", rf"results/embeddings/{ID}/locks/\d+", 1, 2.0),
        ("written to", rf"results/embeddings/{ID}/vectors\.npy", 1, 0.0),
        ("made", rf"results/embeddings/{ID}/shards/{_TEMPORARY}", 1, 0.0),
        ("renamed to", rf"results/embeddings/{ID}/shards/\d+\.json", 1, 1.0),
        ("made", rf"results/embeddings/{ID}/{_TEMPORARY}", 0, 0.0),
        ("renamed to", rf"results/embeddings/{ID}/manifest\.json", 0, 0.0),
    ],
    "diffusing": [
        ("made", rf"results/diffusion/{ID}/(parts|rows)/{_TEMPORARY}", 4, 0.0),
        ("written to", rf"results/diffusion/{ID}/parts/{_TEMPORARY}", 1, 0.0),
        ("renamed to", rf"results/diffusion/{ID}/parts/.+", 3, 0.0),
        ("written to", rf"results/diffusion/{ID}/matrix\.npy", 3, 0.0),
        ("renamed to", rf"results/diffusion/{ID}/rows/.+", 3, 0.0),
        ("made", rf"results/diffusion/{ID}/{_TEMPORARY}", 2, 0.0),
    ],
    "tuning": [
        ("made", rf"results/studies/{ID}\.workers/.+", 0, 0.5),
        ("written to", rf"results/studies/{ID}\.trials\.jsonl", 3, 0.3),
        ("written to", rf"results/studies/{ID}\.trials\.jsonl", 3, 0.0),
        ("made", rf"results/studies/{_TEMPORARY}", 0, 0.0),
        ("renamed to", rf"results/studies/{ID}\.json", 0, 0.0),
    ],
    "training": [("made", rf"results/claims/{ID}", 1, 1.0), ("renamed to", rf"results/runs/{ID}/run\.json", 0, 0.5)],
    "writing": [
        ("made", rf"results/runs/{ID}/\.predictions.+", 1, 0.0),
        ("written to", rf"results/runs/{ID}/\.predictions.+", 1, 0.0),
        ("renamed to", rf"results/runs/{ID}/predictions\.npz", 1, 0.0),
        ("made", rf"results/runs/{ID}/\.run.+", 1, 0.0),
        ("written to", rf"results/runs/{ID}/\.run.+", 1, 0.0),
        ("renamed to", rf"results/runs/{ID}/run\.json", 1, 0.0),
    ],
    "reporting": [
        ("made", rf"reports/stressed/{_TEMPORARY}", 5, 0.0),
        ("made", rf"reports/stressed/plots/{_TEMPORARY}", 5, 0.0),
        ("written to", r"reports/stressed/.*", 11, 0.0),
        ("renamed to", r"reports/stressed/.*", 11, 0.2),
    ],
}


def draw(phase: str, at: random.Random, seconds: float, few: bool = False) -> Moment:
    """A moment of a phase; or at any time within so many seconds of a run. few: the first that fits."""
    if phase == AT_ANY_TIME:
        return Moment(phase, seconds=at.uniform(0.5, seconds))
    kind, path, most, later = at.choice(_SEEN[phase])
    return Moment(phase, kind, path, 1 + at.randint(0, 0 if few else most), at.uniform(0.0, later))


def in_order(counts: dict[str, int], at: random.Random) -> list[str]:
    """Phases, each so many times, as a run comes through them; what may come at any time is strewn in."""
    middle = [phase for phase in PHASES[2:-1] for _ in range(counts.get(phase, 0))]
    at.shuffle(middle)
    made = [phase for phase in PHASES[:2] for _ in range(counts.get(phase, 0))] + middle
    for _ in range(counts.get(AT_ANY_TIME, 0)):
        made.insert(at.randint(0, len(made)), AT_ANY_TIME)
    return made + ["reporting"] * counts.get("reporting", 0)


def share(counts: dict[str, int], parts: int) -> dict[str, int]:
    """The first of several parts of about the same size."""
    places = [phase for phase, count in counts.items() for _ in range(count)]
    return dict(Counter(places[::parts]))


def table(rows: Iterable[tuple[str, str]]) -> str:
    """Counts by phase: (what was to be disturbed, what was)."""
    rows = list(rows)
    wanted, hit = Counter(row[0] for row in rows), Counter(row[1] for row in rows)
    lines = [f"{'phase':<10} {'aimed at':>8} {'hit':>4}"]
    shown = [phase for phase in (*PHASES, AT_ANY_TIME) if wanted[phase] or hit[phase]]
    lines += [f"{phase:<10} {wanted[phase]:>8} {hit[phase]:>4}" for phase in shown]
    return "\n".join([*lines, f"{'all':<10} {len(rows):>8} {len(rows):>4}"])
