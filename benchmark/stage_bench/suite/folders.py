"""Where the suites, recipes and published numbers lie: inside the installed package, or in the checkout beside it."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent


def folder(name: str) -> Path:
    """`baselines` or `suites`."""
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent.parent / name


def recipe_names() -> list[str]:
    return sorted(path.stem for path in folder("baselines").glob("*.yaml"))


def published_names() -> list[str]:
    return sorted(path.stem for path in (folder("baselines") / "published").glob("*.csv") if path.stem != "time")
