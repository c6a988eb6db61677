"""Where things lie on a site, and what of a folder is a site's own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import PurePosixPath

from stage_bench.leaderboard.files import file_stem

REPORT_FILES = (
    *("index.html", "leaderboard.csv", "leaderboard.md", "leaderboard.tex"),
    *("runs.csv", "separation.csv", "report.json", "hits.npz", "details.json"),
)
"""What is copied of a report, beside its plots."""

OPTIONAL = ("hits.npz", "details.json")
"""Of these, what not every report has."""

PLOTS = "plots"
PLOT_ENDINGS = (".svg", ".png")
MODELS = "models"
INDEX = "index.html"
MANIFEST = "site.json"
NO_JEKYLL = ".nojekyll"  # tells GitHub Pages to serve the files as they are

_RESERVED = (MODELS, INDEX, MANIFEST)


def board(suite: str) -> str:
    """The folder of a suite's board: its name, or one like it that every file system takes."""
    stem = file_stem(suite)
    return f"{stem}-board" if stem.casefold() in _RESERVED else stem


def cards(kind: str, names: Iterable[str]) -> dict[str, str]:
    """The path of each model's card, such as `models/llm-minilm.html`. kind: llm or backbone.

    Names that some file systems would take for one another get a hash each.
    """
    stems = {name: file_stem(name) for name in sorted(set(names))}
    taken = [stem.casefold() for stem in stems.values()]
    found = {}
    for name, stem in stems.items():
        if taken.count(stem.casefold()) > 1:
            stem = f"{stem}-{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:8]}"
        found[name] = f"{MODELS}/{kind}-{stem}.html"
    return found


def is_own(path: str) -> bool:
    """Whether a site may hold a file of this path, relative to its folder: what else there is belongs to somebody."""
    parts = PurePosixPath(path).parts
    if not parts or "\\" in path or "/".join(parts) != path or ".." in parts:
        return False
    if len(parts) == 1:
        return path in (INDEX, MANIFEST, NO_JEKYLL)
    if parts[0] == MODELS:
        return len(parts) == 2 and path.endswith(".html")
    if parts[0].startswith("."):
        return False
    if len(parts) == 2:
        return parts[1] in REPORT_FILES
    return len(parts) == 3 and parts[1] == PLOTS and path.endswith(PLOT_ENDINGS)
