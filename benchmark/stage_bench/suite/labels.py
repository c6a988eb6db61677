"""What the leaderboard calls an entry: its name, and in brackets the options that differ."""

from typing import Any


def label(name: str, options: dict[str, Any]) -> str:
    """`sign(s=4,p=2,t=1)`; the name alone where nothing differs."""
    if not options:
        return name
    return f"{name}({','.join(f'{key}={_shown(value)}' for key, value in options.items())})"


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
