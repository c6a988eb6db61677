"""Spaces: their form, conditions, every point of a grid, and what a study draws from them."""

import itertools
import json
from typing import Any

import pytest

from stage_bench.training import spaces, tuning
from stage_bench.training.proposals import STARTUP
from studying import Objective, choice, history, noting, search

NESTED: dict[str, Any] = {
    "size": {"choices": [1, 2], "when": {"kind": "b"}},
    "kind": ["a", "b", "c"],
    "inner": {"low": 0.0, "high": 1.0, "when": {"size": 2}},
    "rate": {"low": 0.1, "high": 0.2, "when": {"kind": ["b", "c"]}},
}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (0.1, "give a list of choices or a range"),
        ([], "a list of choices must not be empty"),
        ([1, 1], "a choice stands here twice"),
        ([[1]], "a choice is a word, a number, true, false or null"),
        ([float("nan")], "a choice is no infinity"),
        ({"choices": []}, "a list of choices must not be empty"),
        ({"choices": 3}, "choices is a list"),
        ({"choices": [1], "low": 1}, "a list with a condition is {choices: [...], when: {...}}"),
        ({"low": 1}, "a range is {low, high}"),
        ({"low": 1, "high": 2, "lgo": True}, "a range is {low, high}"),
        ({"low": 2, "high": 1}, "low must be a number below high"),
        ({"low": 1, "high": 1}, "low must be a number below high"),
        ({"low": True, "high": 2}, "low must be a number below high"),
        ({"low": "1", "high": 2}, "low must be a number below high"),
        ({"low": 0.0, "high": float("nan")}, "low must be a number below high"),
        ({"low": 0.0, "high": float("inf")}, "low must be a number below high"),
        ({"low": 0, "high": 1, "log": True}, "a logarithmic range starts above 0"),
        ({"low": 1, "high": 2, "log": "yes"}, "log is true or false"),
        ({"low": 1, "high": 9, "step": 0}, "step is a whole number above 0"),
        ({"low": 1, "high": 9, "step": 0.5}, "step is a whole number above 0"),
        ({"low": 1, "high": 9, "step": None}, "step is a whole number above 0"),
        ({"low": 1, "high": 9, "step": 2, "log": True}, "a logarithmic range has no step"),
        ({"low": 0.5, "high": 9, "step": 2}, "step is for ranges of whole numbers"),
        ({"low": 1, "high": 9, "step": 3}, "high must be low and some steps of 3"),
        ({"low": 1, "high": 9, "when": {}}, "when is {option: value}"),
        ({"low": 1, "high": 9, "when": "kind"}, "when is {option: value}"),
        ({"low": 1, "high": 9, "when": {"kind": []}}, "when: kind: give a value or a list of values"),
        ({"low": 1, "high": 9, "when": {"x": 3}}, "the conditions of x wait for each other"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_option(entry, message):
    with pytest.raises(ValueError, match=r"^x: ") as caught:
        spaces.check({"x": entry})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_conditions_that_wait_for_each_other():
    circle = {"a": {"choices": [1], "when": {"b": 1}}, "b": {"choices": [1], "when": {"a": 1}}, "c": [1]}
    with pytest.raises(ValueError, match="a: the conditions of a, b wait for each other"):
        spaces.check(circle)


def test_the_order_of_a_file_does_not_matter():
    for names in itertools.permutations(NESTED):
        shuffled = {name: NESTED[name] for name in names}
        assert spaces.order(shuffled) == ["kind", "rate", "size", "inner"]


@pytest.mark.parametrize(
    ("entry", "inside", "outside"),
    [
        ([1, None, "a", False], [1, None, "a", False], [0, True, 2, "b"]),
        ({"low": 2, "high": 8, "step": 3}, [2, 5, 8], [3, 9, 2.0, True, None, "2"]),
        ({"low": 0.0, "high": 1.0}, [0, 0.5, 1.0], [-0.1, 1.1, True, "0.5", None, float("nan")]),
        ({"choices": [1.5], "when": {"other": 1}}, [1.5], [1]),
    ],
)
def test_what_an_entry_allows(entry, inside, outside):
    assert all(spaces.may_be(entry, value) for value in inside)
    assert not any(spaces.may_be(entry, value) for value in outside)


def test_an_option_is_on_where_its_conditions_hold():
    full = {"kind": "b", "size": 2, "inner": 0.5, "rate": 0.15}
    assert spaces.within(NESTED, full) == full
    assert spaces.within(NESTED, {**full, "size": 1}) == {"kind": "b", "size": 1, "rate": 0.15}
    assert spaces.within(NESTED, {**full, "kind": "c"}) == {"kind": "c", "rate": 0.15}
    # An option that is off turns nothing on, whatever value it keeps.
    assert spaces.within(NESTED, {**full, "kind": "a"}) == {"kind": "a"}
    # What is off may lie anywhere; what is on may not.
    assert spaces.within(NESTED, {**full, "kind": "a", "rate": 7}) == {"kind": "a"}
    assert spaces.within(NESTED, {**full, "rate": 7}) is None
    assert spaces.within(NESTED, {"kind": "a"}) is None, "values are complete"


def test_a_grid_is_every_point_once():
    space = {"a": [1, 2, 3], "b": {"low": 2, "high": 8, "step": 3}, "c": [True, False]}
    points = list(spaces.grid(space))
    expected = [dict(zip("abc", values, strict=True)) for values in itertools.product([1, 2, 3], [2, 5, 8], [1, 0])]
    assert sorted(map(str, points)) == sorted(str({**point, "c": bool(point["c"])}) for point in expected)


def test_a_grid_with_conditions_has_no_point_twice():
    space = {"kind": ["a", "b"], "size": {"choices": [1, 2, 3], "when": {"kind": "b"}}}
    points = list(spaces.grid(space))
    assert points == [{"kind": "a"}, *({"kind": "b", "size": size} for size in (1, 2, 3))]


def test_what_is_no_grid():
    assert spaces.why_no_grid({"lr": {"low": 0.1, "high": 0.2}}) == "lr: grid needs lists or whole-number ranges"
    assert spaces.why_no_grid({"k": {"low": 1, "high": 9}, "x": ["a"]}) is None
    assert "more than 100,000 points" in spaces.why_no_grid({name: {"low": 1, "high": 99} for name in "abc"})
    assert "more than 100,000 points" in spaces.why_no_grid({"seed": {"low": 0, "high": 10**15}})  # no list of them


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_study_draws_what_is_on(tmp_path, sampler):
    tried: list[dict[str, Any]] = []
    first = {"kind": "b", "size": 2, "inner": 0.5, "rate": 0.15}
    search(tmp_path, noting(tried), 40, first=first, sampler=sampler, space=NESTED)
    assert tried[0] == first
    names = {"a": {"kind"}, "c": {"kind", "rate"}}
    for values in tried:
        small = {"kind", "size", "rate"}
        expected = names.get(values["kind"], small | {"inner"} if values.get("size") == 2 else small)
        assert set(values) == expected
    assert {frozenset(values) for values in tried} >= {frozenset(names["a"]), frozenset(names["c"])}
    assert [row["values"] for row in history(tmp_path)] == tried


def test_a_conditional_study_goes_on_as_it_would_have_gone(tmp_path):
    class Scored(Objective):
        def __call__(self, values: dict[str, Any], report: tuning.Report) -> tuning.Scores:
            self.tried.append(values)
            if len(self.tried) - 1 in self.plan:
                raise self.plan[len(self.tried) - 1]
            return tuning.Scores(values.get("inner", 0.1) + values.get("rate", 0), 1.0)

    def go(folder, objective):
        return search(folder, objective, STARTUP + 12, first={}, space=NESTED)

    go(tmp_path / "undisturbed", undisturbed := Scored())
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path, Scored({STARTUP + 2: KeyboardInterrupt()}))
    go(tmp_path, rest := Scored())
    assert undisturbed.tried[STARTUP + 2 :] == rest.tried
    late = [row["values"] for row in history(tmp_path)][STARTUP + tuning.SIDE_BY_SIDE :]
    assert sum("inner" in values for values in late) >= len(late) // 2, "the sampler learns where it pays"


def test_the_winner_has_what_is_on(tmp_path):
    """What is off keeps the recipe's value: it is not in the result."""
    space = {"kind": ["a", "b"], "size": {"choices": [1, 2], "when": {"kind": "b"}}}

    def objective(values: dict[str, Any], report: tuning.Report) -> tuning.Scores:
        return tuning.Scores(0.9 if values["kind"] == "a" else 0.1, 1.0)

    assert search(tmp_path, objective, 12, first={}, space=space).values == {"kind": "a"}


GRID = {"kind": ["a", "b", "c"], "k": {"low": 1, "high": 4}}


def test_a_grid_ends_with_its_points_and_says_so(tmp_path):
    tried: list[dict[str, Any]] = []
    result = search(tmp_path, noting(tried), 50, first={}, sampler="grid", space=GRID)
    assert result.trials == 12
    assert sorted(map(str, tried)) == sorted(map(str, spaces.grid(GRID)))
    assert tuning.summary(tmp_path, "study", choice(50, sampler="grid", space=GRID))["ended"] == "grid"
    search(tmp_path, noting(tried), 50, first={}, sampler="grid", space=GRID)
    assert len(tried) == 12, "and is not begun again"
    part = tuning.summary(tmp_path, "study", choice(5, sampler="grid", space=GRID))
    assert (len(part["history"]), part["ended"]) == (5, "trials")


def test_a_grid_begins_with_the_recipe_and_spreads(tmp_path):
    tried: list[dict[str, Any]] = []
    search(tmp_path, noting(tried), 6, first={"kind": "b", "k": 3}, sampler="grid", space=GRID)
    assert tried[0] == {"kind": "b", "k": 3}
    assert len({values["kind"] for values in tried}) == 3, "six of twelve points are not those of the first two kinds"


def test_importances_are_those_of_a_study_that_is_known(tmp_path):
    """The score depends on one option of three; the options that are not always on are left out, with a word."""
    space = {**{name: {"low": 0.0, "high": 1.0} for name in "abc"}, "kind": ["x", "y"]}
    space["only"] = {"low": 0.0, "high": 1.0, "when": {"kind": "x"}}

    def objective(values: dict[str, Any], report: tuning.Report) -> tuning.Scores:
        return tuning.Scores(values["b"] + 0.01 * values["a"], 1.0)

    search(tmp_path, objective, 30, first={}, sampler="random", space=space)
    shown = json.loads((tmp_path / "study.json").read_text())
    shares = shown["importances"]
    assert max(shares, key=shares.get) == "b"
    assert shares["b"] > 0.8
    assert sum(shares.values()) == pytest.approx(1, abs=0.01)
    assert set(shares) == {"a", "b", "c", "kind"}
    assert shown["importances_note"] == "without only, not on in every trial"
    content = (tmp_path / "study.json").read_bytes()
    (tmp_path / "study.json").unlink()
    search(tmp_path, objective, 30, first={}, sampler="random", space=space)
    assert (tmp_path / "study.json").read_bytes() == content, "the same trials give the same shares"


@pytest.mark.parametrize(
    ("trials", "score", "note"),
    [(5, lambda values: values["a"], "there are 5"), (12, lambda values: 0.5, "all trials came out the same")],
)
def test_no_importances_have_a_reason(tmp_path, trials, score, note):
    space = {"a": {"low": 0.0, "high": 1.0}, "b": [1, 2]}
    search(tmp_path, lambda values, report: tuning.Scores(score(values), 1.0), trials, first={}, space=space)
    shown = json.loads((tmp_path / "study.json").read_text())
    assert shown["importances"] == {}
    assert note in shown["importances_note"]
