"""Search spaces: what they may say, which options of one are on, and every point of a grid; nothing heavy here.

A space maps options to what they may be: a list of values, `{choices: [...], when: ...}`, or a range
`{low, high, log, step, when}`. `when: {other: value or list of values}` turns an option on only where the others have
these values, and are on themselves; an option that is off keeps the recipe's value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

Space = dict[str, Any]

MAX_GRID = 100_000
"""Points of a grid, at most: more are no grid that anyone means to try."""


def check(space: Space) -> Space:
    """The form of a space, without a look at what the options are.

    Raises:
        ValueError: one line, which begins with the option's name.
    """
    for name, entry in space.items():
        if isinstance(entry, list):
            _check_choices(name, entry)
        elif isinstance(entry, dict) and "choices" in entry:
            _check_keys(name, entry, {"choices", "when"}, "a list with a condition is {choices: [...], when: {...}}")
            if not isinstance(entry["choices"], list):
                raise ValueError(f"{name}: choices is a list")
            _check_choices(name, entry["choices"])
        elif isinstance(entry, dict):
            _check_range(name, entry)
        else:
            raise ValueError(f"{name}: give a list of choices or a range {{low, high, log}}")
        if isinstance(entry, dict) and "when" in entry:
            _check_when(name, entry["when"])
    order(space)
    return space


def _check_keys(name: str, entry: dict[str, Any], known: set[str], form: str) -> None:
    if set(entry) - known:
        raise ValueError(f"{name}: {form}")


def _check_choices(name: str, choices: list[Any]) -> None:
    if not choices:
        raise ValueError(f"{name}: a list of choices must not be empty")
    for choice in choices:
        if not (choice is None or isinstance(choice, (bool, int, float, str))):
            raise ValueError(f"{name}: a choice is a word, a number, true, false or null")
        if isinstance(choice, float) and choice - choice != 0:
            raise ValueError(f"{name}: a choice is no infinity")
    if len(set(choices)) < len(choices):
        raise ValueError(f"{name}: a choice stands here twice")


def _check_range(name: str, entry: dict[str, Any]) -> None:
    form = "a range is {low, high} and, if wanted, log: true, step: a whole number, when: {option: value}"
    _check_keys(name, entry, {"low", "high", "log", "step", "when"}, form)
    if not {"low", "high"} <= set(entry):
        raise ValueError(f"{name}: {form}")
    low, high, log, step = entry["low"], entry["high"], entry.get("log", False), entry.get("step")
    numbers = all(isinstance(bound, (int, float)) and not isinstance(bound, bool) for bound in (low, high))
    if not numbers or not low < high or high - low == float("inf"):
        raise ValueError(f"{name}: low must be a number below high")
    if not isinstance(log, bool):
        raise ValueError(f"{name}: log is true or false")
    if log and low <= 0:
        raise ValueError(f"{name}: a logarithmic range starts above 0")
    if step is None and "step" not in entry:
        return
    if isinstance(step, bool) or not isinstance(step, int) or step < 1:
        raise ValueError(f"{name}: step is a whole number above 0; for fractions give a list")
    if log:
        raise ValueError(f"{name}: a logarithmic range has no step; give a list")
    if not (isinstance(low, int) and isinstance(high, int)):
        raise ValueError(f"{name}: step is for ranges of whole numbers; give a list")
    if (high - low) % step:
        raise ValueError(f"{name}: high must be low and some steps of {step}")


def _check_when(name: str, when: Any) -> None:
    if not isinstance(when, dict) or not when:
        raise ValueError(f"{name}: when is {{option: value}}, the value or a list of them")
    for other, wanted in when.items():
        if isinstance(wanted, dict) or wanted == []:
            raise ValueError(f"{name}: when: {other}: give a value or a list of values")


def order(space: Space) -> list[str]:
    """The options, each behind those that its condition names; else by name, whatever their order in a file.

    Raises:
        ValueError: conditions that wait for each other.
    """
    found: list[str] = []
    left = sorted(space)
    while left:
        ready = [name for name in left if not any(other in left for other in conditions(space[name]))]
        if not ready:
            raise ValueError(f"{left[0]}: the conditions of {', '.join(left)} wait for each other")
        found += ready
        left = [name for name in left if name not in ready]
    return found


def conditions(entry: Any) -> dict[str, list[Any]]:
    """What an option waits for: other options to the values that turn it on; empty where it is always on."""
    when = entry.get("when", {}) if isinstance(entry, dict) else {}
    return {other: wanted if isinstance(wanted, list) else [wanted] for other, wanted in when.items()}


def choices(entry: Any) -> list[Any] | None:
    """The values of a list; None of a range."""
    if isinstance(entry, list):
        return entry
    found: list[Any] | None = entry.get("choices")
    return found


def is_whole(entry: Any) -> bool:
    """Whether an entry is a range of whole numbers."""
    return choices(entry) is None and isinstance(entry["low"], int) and isinstance(entry["high"], int)


def same(one: Any, other: Any) -> bool:
    """Equality of two values as YAML writes them: true is not 1."""
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def may_be(entry: Any, value: Any) -> bool:
    """Whether a value is one of those that an entry allows."""
    listed = choices(entry)
    if listed is not None:
        return any(same(value, choice) for choice in listed)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not entry["low"] <= value <= entry["high"]:
        return False
    if is_whole(entry):
        return isinstance(value, int) and (value - int(entry["low"])) % int(entry.get("step", 1)) == 0
    return True


def draw(space: Space, value_of: Callable[[str], Any]) -> dict[str, Any]:
    """A point of the space: `value_of` is asked for each option that is on, in an order that conditions allow."""
    values: dict[str, Any] = {}
    for name in order(space):
        if _is_on(space[name], values):
            values[name] = value_of(name)
    return values


def _is_on(entry: Any, values: dict[str, Any]) -> bool:
    return all(
        other in values and any(same(values[other], value) for value in wanted)
        for other, wanted in conditions(entry).items()
    )


def within(space: Space, values: dict[str, Any]) -> dict[str, Any] | None:
    """The point of the space that some complete values are; None where they lie outside."""
    if any(name not in values for name in space):
        return None
    point = draw(space, lambda name: values[name])
    return point if all(may_be(space[name], value) for name, value in point.items()) else None


def grid(space: Space) -> Iterator[dict[str, Any]]:
    """Every point of a space of lists and whole-number ranges, each once; options that are off are in none."""
    names = order(space)

    def extend(values: dict[str, Any], position: int) -> Iterator[dict[str, Any]]:
        if position == len(names):
            yield values
            return
        name = names[position]
        if not _is_on(space[name], values):
            yield from extend(values, position + 1)
            return
        entry = space[name]
        listed = choices(entry)
        for value in range(entry["low"], entry["high"] + 1, entry.get("step", 1)) if listed is None else listed:
            yield from extend({**values, name: value}, position + 1)

    return extend({}, 0)


def why_no_grid(space: Space) -> str | None:
    """What keeps a space from being a grid; None where it is one."""
    for name, entry in space.items():
        if choices(entry) is None and not is_whole(entry):
            return f"{name}: grid needs lists or whole-number ranges"
    if sum(1 for _, _ in zip(grid(space), range(MAX_GRID + 1), strict=False)) > MAX_GRID:
        return f"the grid has more than {MAX_GRID:,} points; give shorter lists, or take sampler: random"
    return None
