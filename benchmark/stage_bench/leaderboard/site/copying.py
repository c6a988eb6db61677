"""What of a report's folder goes on a site, to the byte."""

from __future__ import annotations

from pathlib import Path

from stage_bench.leaderboard.site import layout


def read(folder: Path) -> dict[str, bytes]:
    """The files of a report and its plots, by their path in its folder; what else lies there is left, links too."""
    paths = [folder / name for name in layout.REPORT_FILES]
    plots = folder / layout.PLOTS
    if plots.is_dir() and not plots.is_symlink():
        paths += [path for path in sorted(plots.iterdir()) if path.name.endswith(layout.PLOT_ENDINGS)]
    kept = [path for path in paths if path.is_file() and not path.is_symlink()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in kept}
