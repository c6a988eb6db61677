"""`include`: whose keys win, what paths are relative to, and where a mistake is."""

from pathlib import Path

import pytest

from stage_bench.errors import StageBenchError
from stage_bench.suite.reading import read

BASE = """
    name: base
    description: below
    datasets: [api-docs]
    llms: [minilm]
    backbones: [mlp, gcn]
    seeds: 3
"""


def error(path: Path) -> str:
    with pytest.raises(StageBenchError) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_own_keys_win_as_a_whole(suite_file):
    suite_file(BASE, "base.yaml")
    suite, _ = read(suite_file("include: base.yaml\nname: mine\nbackbones: [sage]\n"))
    assert (suite.name, suite.description, suite.seeds) == ("mine", "below", 3)
    assert [entry.name for entry in suite.backbones] == ["sage"]
    assert [entry.name for entry in suite.llms] == ["minilm"]


def test_a_later_include_wins_over_an_earlier(suite_file):
    suite_file(BASE, "base.yaml")
    suite_file("seeds: 4\nrecipe: stage\n", "more.yaml")
    suite, _ = read(suite_file("include: [base.yaml, more.yaml]\n"))
    assert (suite.name, suite.seeds, suite.recipe) == ("base", 4, "stage")
    suite, _ = read(suite_file("include: [more.yaml, base.yaml]\n"))
    assert (suite.seeds, suite.recipe) == (3, "stage")


def test_includes_nest_each_relative_to_its_own_file(suite_file):
    suite_file(BASE, "a/b/base.yaml")
    suite_file("include: b/base.yaml\nseeds: 7\n", "a/middle.yaml")
    suite, _ = read(suite_file("include: ../a/middle.yaml\nname: top\n", "c/top.yaml"))
    assert (suite.name, suite.seeds, suite.description) == ("top", 7, "below")


def test_the_same_file_by_two_ways_is_no_cycle(suite_file):
    suite_file(BASE, "base.yaml")
    suite_file("include: base.yaml\nseeds: 5\n", "left.yaml")
    suite_file("include: base.yaml\nrecipe: stage\n", "right.yaml")
    suite, _ = read(suite_file("include: [left.yaml, right.yaml]\n"))
    assert (suite.seeds, suite.recipe) == (3, "stage")


def test_paths_are_relative_to_the_file_that_says_them(tiny_folder, suite_file, make_plan):
    tiny_folder("elsewhere/graphs/tiny")
    suite_file("", "elsewhere/plugin.py")
    suite_file(
        """
        name: base
        plugins: [plugin.py]
        datasets: [{name: tiny, path: graphs/tiny}]
        features: [{name: shallow, dimension: 4}]
        backbones: [mlp]
        """,
        "elsewhere/base.yaml",
    )
    alone = make_plan(suite_file("name: alone\ninclude: elsewhere/base.yaml\n", "top.yaml"))
    assert alone.graphs["tiny"].num_nodes == 40


@pytest.mark.parametrize(
    ("include", "message"),
    [
        ("include: absent.yaml", "1:10: 'absent.yaml' does not exist"),
        ("include: [base.yaml, absent.yaml]", "1:22: 'absent.yaml' does not exist"),
        ("include: suite.yaml", "1:10: 'suite.yaml' includes itself"),
        ("include: 3", "1:10: include is the path of another suite, or a list of such paths"),
        ("include: [base.yaml, 3]", "1:10: include is the path of another suite, or a list of such paths"),
    ],
)
def test_wrong_includes(suite_file, include: str, message: str):
    suite_file(BASE, "base.yaml")
    path = suite_file(f"{include}\nname: mine\n")
    assert error(path) == f"{path}:{message}"


def test_a_cycle_is_found_where_it_closes(suite_file, tmp_path: Path):
    suite_file("include: two.yaml\n", "one.yaml")
    suite_file("name: two\ninclude:\n  - three.yaml\n", "two.yaml")
    suite_file("include: one.yaml\n", "three.yaml")
    assert error(tmp_path / "one.yaml") == f"{tmp_path / 'three.yaml'}:1:10: 'one.yaml' includes itself"


def test_a_mistake_in_an_included_file_has_its_place_there(suite_file, tmp_path: Path):
    base = suite_file(BASE.replace("seeds: 3", "sedes: 3"), "base.yaml")
    top = suite_file("include: base.yaml\nname: top\n", "top.yaml")
    assert error(top).startswith(f"{base}:6:1: unknown key 'sedes'; did you mean 'seeds'? (valid: ")
    base.write_text("name: [\n")
    assert error(top).startswith(f"{base}:2:1: not YAML: ")


def test_a_mistake_in_the_including_file_has_its_place_there(suite_file):
    suite_file(BASE, "base.yaml")
    top = suite_file("include: base.yaml\nname: top\nseeds: -1\n", "top.yaml")
    assert error(top) == f"{top}:3:8: seeds: input should be greater than or equal to 1 (here: -1)"


def test_files_that_include_each_other_many_times_over_have_an_end(suite_file):
    suite_file(BASE, "0.yaml")
    for level in range(1, 20):
        suite_file(f"include: [{level - 1}.yaml, {level - 1}.yaml]\n", f"{level}.yaml")
    assert error(suite_file("include: 19.yaml\n")).endswith(": more than 100 files are included")


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("~nobody-of-this-name/base.yaml", "'~nobody-of-this-name/base.yaml' is no path: Could not determine home"),
        ("x" * 300, f"'{'x' * 200}…': File name too long"),
        ("", "'' does not exist"),
        ("loop.yaml", "'loop.yaml': Too many levels of symbolic links"),
    ],
)
def test_a_path_that_is_none(suite_file, tmp_path: Path, name: str, problem: str):
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    path = suite_file(f"include: ['{name}']\n")
    assert error(path).startswith(f"{path}:1:11: {problem}")
