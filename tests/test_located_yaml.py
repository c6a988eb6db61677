"""YAML by the 1.2 core rules: values, refusals, and where everything stands."""

import math
from pathlib import Path

import pytest

from stage_bench import located_yaml
from stage_bench.errors import StageBenchError

FILE = Path("suite.yaml")


def value(scalar: str) -> object:
    return located_yaml.parse(f"key: {scalar}", FILE).value["key"]


def error(text: str) -> str:
    with pytest.raises(StageBenchError) as caught:
        located_yaml.parse(text, FILE)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("scalar", "expected"),
    [
        ("1e-2", 0.01),
        ("5E3", 5000.0),
        ("1.", 1.0),
        (".5", 0.5),
        ("+.5e3", 500.0),
        ("-12", -12),
        ("+1", 1),
        ("007", 7),
        ("0o17", 15),
        ("0x1F", 31),
        (".inf", math.inf),
        ("+.Inf", math.inf),
        ("-.INF", -math.inf),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("null", None),
        ("", None),
        ("!!str 5", "5"),
        ("!!float 5", 5.0),
        # YAML 1.1 reads every one of these as something else.
        ("no", "no"),
        ("on", "on"),
        ("yes", "yes"),
        ("Off", "Off"),
        ("y", "y"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("0b1", "0b1"),
        ("2020-01-01", "2020-01-01"),
        ("=", "="),
        ("1e", "1e"),
        ("-.nan", "-.nan"),
        ("'5'", "5"),
    ],
)
def test_scalars(scalar: str, expected: object):
    read = value(scalar)
    assert read == expected
    assert type(read) is type(expected)


@pytest.mark.parametrize("scalar", [".nan", ".NaN", ".NAN"])
def test_nan(scalar: str):
    read = value(scalar)
    assert isinstance(read, float)
    assert math.isnan(read)


def test_keys_are_words_and_merge_keys_are_no_magic():
    document = located_yaml.parse("1: a\nno: b\n<<: {c: d}", FILE)
    assert document.value == {"1": "a", "no": "b", "<<": {"c": "d"}}


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("", "1:1", "the file is empty"),
        ("# nothing\n", "1:1", "the file is empty"),
        ("- a\n- b\n", "1:1", "expected `key: value` lines at the top"),
        ("\n  word", "2:3", "expected `key: value` lines at the top"),
        ("a: 1\nb:\n  c: 1\n  c: 2\n", "4:3", "key 'c' stands here twice"),
        ("a: {b: 1, b: 1}", "1:11", "key 'b' stands here twice"),
        ("'1': a\n1: b\n", "2:1", "key '1' stands here twice"),
        ("? [a]\n: b\n", "1:3", "a key must be a word"),
        ("a: !mine 5", "1:4", "the tag '!mine' is not allowed"),
        ("a: !!binary aGk=", "1:4", "the tag 'tag:yaml.org,2002:binary' is not allowed"),
        ("a: !!set {b: }", "1:4", "the tag 'tag:yaml.org,2002:set' is not allowed"),
        ("a: !!python/name:os.system x", "1:4", "the tag 'tag:yaml.org,2002:python/name:os.system' is not allowed"),
        ("a: !!bool yes", "1:4", "'yes' cannot be read as a bool"),
        ("a: &a [*a]", "1:4", "an alias contains itself"),
        ("a: &a\n  b: [{c: *a}]", "1:4", "an alias contains itself"),
        ("a: *b", "1:4", "not YAML: found undefined alias 'b'"),
        ("a:\n\t- b", "2:1", "not YAML: found character '\\t' that cannot start any token"),
        ("a: [1", "1:6", "not YAML: expected ',' or ']', but got '<stream end>'"),
        ("a: 1\n---\nb: 2\n", "2:1", "not YAML: but found another document"),
        ("a: 1\nb: \x00", "2:4", "not YAML: the character U+0000 is not allowed"),
        ("a: " + "[" * 2000 + "]" * 2000, "1:54", "not YAML: more than 50 levels of nesting"),
        ("a: " + "{b: " * 2000, "1:201", "not YAML: more than 50 levels of nesting"),
        ("- " * 2000, "1:103", "not YAML: more than 50 levels of nesting"),
        ("a: " + "9" * 10_000, "1:4", "9…' is a number that does not fit in 64 bits"),
        ("a: 0x" + "f" * 10_000, "1:4", "is a number that does not fit in 64 bits"),
        ("a: 18446744073709551616", "1:4", "'18446744073709551616' is a number that does not fit in 64 bits"),
        ("a: -1e999", "1:4", "'-1e999' is a number that does not fit in 64 bits"),
        # what only an escape can say
        ('a: "\\U00110000"', "1:7", "not YAML: an escape stands for no character"),
        ('a: "x\\0"', "1:4", "a text with the character U+0000, which no file here needs"),
        ('a: "\\ud800"', "1:4", "a text with the character U+D800, which no file here needs"),
        ('a: {"\\e[31m": 1}', "1:5", "a text with the character U+001B, which no file here needs"),
        ("!!python/name:os.system a: 1", "1:1", "the tag 'tag:yaml.org,2002:python/name:os.system' is not allowed"),
        ('"a\\nb": 1\n"a\\nb": 2', "2:1", r"key 'a\nb' stands here twice"),
    ],
)
def test_refusals(text: str, place: str, message: str):
    said = error(text)
    assert said.startswith(f"suite.yaml:{place}: ")
    assert message in said


def test_an_alias_is_its_value():
    assert located_yaml.parse("a: &x [1, 2]\nb: *x\n", FILE).value == {"a": [1, 2], "b": [1, 2]}


def test_an_alias_bomb_is_refused_before_it_goes_off():
    lines = ["a: &a [" + "x, " * 10 + "]"]
    lines += [f"{new}: &{new} [" + f"*{old}, " * 10 + "]" for old, new in zip("abcdefgh", "bcdefghi", strict=True)]
    assert "more than 100000 values" in error("\n".join(lines))


def test_files_that_cannot_be_read(tmp_path: Path):
    (tmp_path / "latin.yaml").write_bytes("é: é\né: ".encode() + b"\xe9\xe9\n")
    (tmp_path / "long.yaml").write_bytes(b"a: 1 #" + bytes([120]) * 2_000_000)
    for name, message in (
        ("absent.yaml", ": no such file"),
        ("", ": cannot be read: Is a directory"),
        ("latin.yaml", ":2:4: not UTF-8: invalid continuation byte"),
        ("long.yaml", ":1:1: has more than 2,000,000 bytes, which is no file that a person wrote"),
    ):
        with pytest.raises(StageBenchError) as caught:
            located_yaml.load(tmp_path / name)
        assert str(caught.value) == f"{tmp_path / name}{message}"


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path):
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbfname: a\n")
    assert located_yaml.load(tmp_path / "a.yaml").value == {"name": "a"}


def test_places():
    document = located_yaml.parse("name: a\nlist:\n  - one\n  - {two: 2, three: [x,  y]}\n", FILE)
    assert document.place() == "suite.yaml:1:1"
    assert document.place(["name"]) == "suite.yaml:1:7"
    assert document.place(["name"], key=True) == "suite.yaml:1:1"
    assert document.place(["list", 0]) == "suite.yaml:3:5"
    assert document.place(["list", 1]) == "suite.yaml:4:5"
    assert document.place(["list", 1, "three"]) == "suite.yaml:4:21"
    assert document.place(["list", 1, "three"], key=True) == "suite.yaml:4:14"
    assert document.place(["list", 1, "three", 1]) == "suite.yaml:4:26"


def test_steps_that_do_not_exist_are_passed_over():
    document = located_yaml.parse("list:\n  - {two: 2}\n", FILE)
    assert document.place(["list", 0, "absent"]) == "suite.yaml:2:5"
    assert document.place(["list", 7]) == "suite.yaml:2:3"
    assert document.place(["list", "branch", 0, "two"]) == "suite.yaml:2:11"
    assert str(document.error(["list", 0, "two"], "is wrong", key=True)) == "suite.yaml:2:6: is wrong"
