"""Files that are nearly right: suites, datasets, tables, results with the mistakes that people and disks make."""

from __future__ import annotations

import copy
import csv
import io
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

Draw = Callable[..., Any]
Files = dict[str, bytes | None]
"""What lies in a folder: path to content, None a folder."""


class Raw(str):
    """Text that stands in a file as it is."""


class Pairs(list[Any]):
    """A mapping as (key, value) pairs, of which a key may stand there twice."""


def tree(value: Any) -> Any:
    """The same with mappings as Pairs."""
    if isinstance(value, dict):
        return Pairs([key, tree(item)] for key, item in value.items())
    return [tree(item) for item in value] if isinstance(value, list) else value


# --- what is put in the place of something else

YAML_TOKENS = (
    *("1e-2", "1e999", "-1e999", ".nan", ".inf", "no", "on", "~", "NULL", "2024-01-01", "2024-01-01T00:00:00Z"),
    *("0o17", "0x1f", "0x" + "f" * 5000, "1" * 5000, "1_000", "12:30:45", "1.0.0", "+.5", "-", "=", "<<"),
    *('!!python/object/apply:os.system ["true"]', "!!python/name:os.system", "!!binary aGk=", '!!int "3"', "!!str 3"),
    *("!!float x", "!!bool maybe", "!!set {a, b}", "!!omap [a: 1]", "!local x", "!<tag:x> y", "!!null x", "! x"),
    *("&a x", "*a", "*nowhere", "&a [*a]", "&a {b: *a}", "{<<: {name: x}}", "{? [a] : b}", "{[a]: b}", "{!!int x: 1}"),
    *('"\\ud800"', '"\\0"', '"\\x07"', '"a\\nb"', '"\\u2028"', '"\\e[31mred"', '"\\U00110000"', '"\\q"'),
    *("|\n  x", ">-\n  y", "|9\n x", "? x", "- x", "@x", "`x`", "%x", "[", "{", '"', "'", "]", "}", ",", ":", "#"),
    *("---", "...", "\t", "[" * 70 + "]" * 70, "[" * 3000 + "]" * 3000, "{a: " * 600 + "1" + "}" * 600, "- " * 900),
    "[&a [1, 1, 1, 1, 1, 1, 1, 1], "
    + ", ".join(f"&{new} [{', '.join([f'*{old}'] * 8)}]" for old, new in zip("abcdefgh", "bcdefghi", strict=True))
    + "]",
)
VALUES: tuple[Any, ...] = (
    *(0, 1, -1, 2, 3, 2**31, 2**32 - 1, 2**53, 2**63, 2**64, -(2**63), 10**30, 10**400, 0.5, 1e308, 5e-324, -0.0, 1.5),
    *(True, False, None, "", " ", "x", "a b c", "a\nb", "é", "日本", "😀", "\u202e", "\u2028", "\x7f", "'", "{", "{}"),
    *(
        "../..",
        "/etc/passwd",
        "~nobody-of-this-name/x",
        "~",
        ".",
        "x" * 300,
        "x" * 5000,
        "x\0y",
        "\udc80",
        "con",
        "a/b",
    ),
    *(
        "random-60-20-20",
        "random-0-50-50",
        f"random-{'9' * 5000}-20-20",
        "random-60-20-20 ",
        "column",
        "file",
        "public",
    ),
    *(
        "8GB",
        f"{'9' * 400}GB",
        "1e3GB",
        "0B",
        "http://me:pw@host/v1",
        "https://host/?key=1",
        "http://[::1",
        "file:///x",
    ),
    *("{text}", "{title}", "{label}", "Say {text} {classes} {top}", "none", "default", "all", "each", "val_accuracy"),
    *(
        [],
        {},
        [[]],
        [None],
        {"a": {}},
        ["x", "x"],
        {"name": "x"},
        {"low": 1, "high": 2},
        {"choices": [1, 2], "when": {}},
    ),
    *(
        {"split": 2, "initialisation": [7, 8]},
        {"trials": 2},
        {"endpoint": True},
        {"local": "x/y"},
        {"upstream": "tiny"},
    ),
)
JSON_TOKENS = (
    *("NaN", "Infinity", "-Infinity", "1e999", "9" * 5000, "[" * 100_000, "{}", "[]", "null", "true", "1.0", "-0"),
    *('"\\ud800"', '"\\u0000"', '"\\n"', '"', "'x'", "01", "{,}", "\ufeff1", "1e400", "[[[[[[1]]]]]]", '"x" "y"', ""),
)
CELLS = (
    *("", " ", "0", "-1", "1.0", "1e3", "1e300", "1e999", "nan", "NaN", "inf", "-inf", "NA", "null", "None", "true"),
    *("9" * 30, "9" * 400, "9" * 5000, "0x10", "1_000", "٣", "½", "0.5", "5e-324", "1.7976931348623157e308", "-0"),
    *('"', '""', '"x', 'x"y', '"x"y', "'", ",", ";", "\t", "\n", "\r", "\r\n", "\0", "\x1b[31m", "\u2028", "\ufeff"),
    *(
        "=1+1",
        "@SUM(A1)",
        "<script>alert(1)</script>",
        "$x^2$",
        "\\input{x}",
        "*b*",
        "é",
        "😀",
        "x" * 5000,
        "../..",
        "; ",
    ),
)
BYTES = (
    b"\xff",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\0",
    b"\x80",
    b"\r",
    b"\n",
    b"\x85",
    b"\xed\xa0\x80",
    b"\x1b[31m",
    b"\x07",
)


# --- edits of text and bytes


def edited(draw: Draw, text: str, tokens: Sequence[str]) -> str:
    """The text after some slips of a hand."""
    for _ in range(draw(st.integers(0, 2))):
        here = draw(st.integers(0, len(text)))
        there = min(len(text), here + draw(st.integers(0, 30)))
        kind = draw(st.integers(0, 5))
        if kind == 0:
            text = text[:here] + draw(st.sampled_from(tokens)) + text[here:]
        elif kind == 1:
            text = text[:here] + text[there:]
        elif kind == 2:
            text = text[:there] + text[here:there] + text[there:]
        elif kind == 3:
            text = text[:here]
        elif kind == 4:
            text = text[:here] + draw(st.characters()) + text[here:]
        else:
            text = text[:here] + draw(st.sampled_from((" ", "\t", "\n", "\n\n", ":", "x" * 20_000))) + text[there:]
    return text


def encoded(draw: Draw, text: str) -> bytes:
    """The bytes of a text, mostly as they should be."""
    kind = draw(st.integers(0, 30))
    if kind == 0:
        text = text.replace("\n", "\r\n")
    elif kind == 1:
        text = text.replace("\n", "\r")
    elif kind == 2:
        text = "\ufeff" + text
    elif kind in (3, 4):
        return text.encode(("utf-16", "latin-1")[kind - 3], "replace")
    data = text.encode("utf-8", "surrogatepass")
    return damaged(draw, data) if kind < 8 else data


def damaged(draw: Draw, data: bytes) -> bytes:
    """Bytes as a bad disk or a broken download leaves them."""
    for _ in range(draw(st.integers(1, 2))):
        here = draw(st.integers(0, len(data)))
        kind = draw(st.integers(0, 4))
        if kind == 0:
            data = data[:here] + draw(st.sampled_from(BYTES)) + data[here:]
        elif kind == 1:
            data = data[:here] + draw(st.binary(max_size=4)) + data[here + draw(st.integers(0, 4)) :]
        elif kind == 2:
            data = data[:here]
        elif kind == 3:
            data = data[:here] + bytes(draw(st.integers(1, 64))) + data[here:]
        else:
            data = b"" if here % 2 else data + data
    return data


# --- trees: YAML and JSON


def _places(node: Any) -> list[tuple[Any, int]]:
    found = []
    for position, item in enumerate(node) if isinstance(node, list) else ():
        if isinstance(node, Pairs):
            found.append((item, 1))
            found += _places(item[1])
        else:
            found.append((node, position))
            found += _places(item)
    return found


def _parents(node: Any) -> list[list[Any]]:
    """Every list and mapping in a tree."""
    if not isinstance(node, list):
        return []
    inner = (item[1] for item in node) if isinstance(node, Pairs) else node
    return [node, *(parent for item in inner for parent in _parents(item))]


def changed(draw: Draw, node: Any, words: Sequence[str], odd: Sequence[Any]) -> Any:
    """A tree after one to three changes. words: keys and names; odd: what may take the place of a value."""
    node = copy.deepcopy(node)
    for _ in range(draw(st.integers(1, 3))):
        places, parents = _places(node), _parents(node)
        if not places:
            return node
        container, position = places[draw(st.integers(0, len(places) - 1))]
        parent = parents[draw(st.integers(0, len(parents) - 1))]
        kind = draw(st.integers(0, 9))
        if kind <= 2:
            container[position] = tree(draw(st.sampled_from(odd)))
        elif kind == 3:
            container[position] = draw(st.sampled_from(words))
        elif kind == 4 and parent:
            del parent[draw(st.integers(0, len(parent) - 1))]
        elif kind == 5 and parent:
            parent.append(copy.deepcopy(parent[draw(st.integers(0, len(parent) - 1))]))
        elif kind == 6 and isinstance(parent, Pairs) and parent:
            pair = parent[draw(st.integers(0, len(parent) - 1))]
            pair[0] = draw(st.sampled_from(words)) if draw(st.booleans()) else _misspelt(draw, str(pair[0]))
        elif kind == 7:
            item = tree(draw(st.sampled_from(odd)))
            parent.append([draw(st.sampled_from(words)), item] if isinstance(parent, Pairs) else item)
        elif kind == 8:
            other, at = places[draw(st.integers(0, len(places) - 1))]
            container[position] = copy.deepcopy(other[at])
        else:
            wrapped = container[position]
            for _ in range(draw(st.sampled_from((1, 1, 2, 80)))):
                wrapped = Pairs([["name", wrapped]]) if draw(st.booleans()) else [wrapped]
            container[position] = wrapped
    return node


def _misspelt(draw: Draw, word: str) -> str:
    here = draw(st.integers(0, len(word)))
    return word[:here] + draw(st.sampled_from(("", "x", " ", "\n", "\x1b", "\u2028"))) + word[here + 1 :]


def flow(node: Any) -> str:
    """A tree as YAML in one line."""
    if isinstance(node, Raw):
        return str(node)
    if isinstance(node, Pairs):
        return "{" + ", ".join(f"{_key(key)}: {flow(item)}" for key, item in node) + "}"
    if isinstance(node, list):
        return "[" + ", ".join(map(flow, node)) + "]"
    return repr(node) if isinstance(node, float) else _scalar(node)


def block(node: Any, indent: str = "") -> str:
    """A tree as YAML in lines."""
    if isinstance(node, Pairs) and node and len(indent) < 20:
        lines = []
        for key, item in node:
            inner = block(item, indent + "  ")
            lines.append(f"{indent}{_key(key)}:" + (f"\n{inner}" if "\n" in inner else f" {inner.strip(' ')}\n"))
        return "".join(lines)
    if isinstance(node, list) and len(node) > 1 and len(indent) < 20 and not isinstance(node, Pairs):
        return "".join(f"{indent}- {flow(item)}\n" for item in node)
    return flow(node)


def _key(key: Any) -> str:
    return str(key) if isinstance(key, Raw) or re.fullmatch(r"[A-Za-z][\w-]*", str(key)) else _scalar(key)


def _scalar(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return json.dumps(value, ensure_ascii=True)


def json_text(node: Any) -> str:
    """A tree as JSON."""
    if isinstance(node, Raw):
        return str(node)
    if isinstance(node, Pairs):
        return "{" + ", ".join(f"{json.dumps(str(key))}: {json_text(item)}" for key, item in node) + "}"
    if isinstance(node, list):
        return "[" + ", ".join(map(json_text, node)) + "]"
    return json.dumps(node)


def yaml_bytes(draw: Draw, value: Any, words: Sequence[str]) -> bytes:
    """A YAML file made from a right one."""
    odd = (*VALUES, *map(Raw, YAML_TOKENS))
    node = tree(value)
    if draw(st.integers(0, 9)):
        node = changed(draw, node, words, odd)
    written = block(node) if draw(st.booleans()) else flow(node)
    if draw(st.integers(0, 3)) == 0:
        written = edited(draw, written, YAML_TOKENS)
    return encoded(draw, written)


def json_bytes(draw: Draw, value: Any, words: Sequence[str]) -> bytes:
    """A JSON file made from a right one."""
    node = changed(draw, tree(value), words, (*VALUES, *map(Raw, JSON_TOKENS)))
    written = json_text(node)
    if draw(st.integers(0, 3)) == 0:
        written = edited(draw, written, JSON_TOKENS)
    return encoded(draw, written)


def json_lines(draw: Draw, rows: Sequence[dict[str, Any]], words: Sequence[str]) -> bytes:
    nodes = changed(draw, [tree(row) for row in rows], words, (*VALUES, *map(Raw, JSON_TOKENS)))
    lines = [json_text(node) + "\n" for node in nodes]
    return encoded(draw, edited(draw, "".join(lines), JSON_TOKENS) if draw(st.integers(0, 3)) == 0 else "".join(lines))


# --- tables


def csv_bytes(draw: Draw, rows: Sequence[Sequence[str]], words: Sequence[str], cells: Sequence[str] = CELLS) -> bytes:
    """A CSV file made from a right one; the first row is its header."""
    table = [list(row) for row in rows]
    for _ in range(draw(st.integers(1, 3))):
        row = table[draw(st.integers(0, len(table) - 1))]
        place = draw(st.integers(0, max(0, len(row) - 1)))
        kind = draw(st.integers(0, 7))
        if kind <= 3 and row:
            row[place] = draw(st.sampled_from(cells))
        elif kind == 4 and row:
            row[place] = draw(st.sampled_from(words))
        elif kind == 5:
            row.insert(place, draw(st.sampled_from(cells)))
        elif kind == 6 and row:
            del row[place]
        elif len(table) > 1:
            if draw(st.booleans()):
                table.append(list(row))
            else:
                table.remove(row)
    quoted = draw(st.integers(0, 3))
    file = io.StringIO()
    if quoted:
        style = csv.QUOTE_ALL if quoted == 1 else csv.QUOTE_MINIMAL
        csv.writer(file, lineterminator="\n", quoting=style).writerows(table)
    else:  # as who does not know of quoting
        file.write("".join(",".join(row) + "\n" for row in table))
    written = file.getvalue()
    return encoded(draw, edited(draw, written, CELLS) if draw(st.integers(0, 3)) == 0 else written)


def parquet_bytes(draw: Draw, columns: dict[str, list[Any]], words: Sequence[str]) -> bytes:
    """A parquet file made from a right one."""
    import pyarrow
    from pyarrow import parquet

    names, arrays = list(columns), [pyarrow.array(values) for values in columns.values()]
    rows = len(next(iter(columns.values())))
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(0, len(names) - 1))
        kind = draw(st.integers(0, 3))
        if kind == 0:
            arrays[place] = draw(st.sampled_from(_odd_arrays(rows)))
        elif kind == 1:
            names[place] = draw(st.sampled_from(words))
        elif kind == 2 and len(names) > 1:
            del names[place], arrays[place]
        else:
            names.append(draw(st.sampled_from((*names, *words))))
            arrays.append(draw(st.sampled_from(_odd_arrays(rows))))
    file = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_arrays(arrays, names=names), file)
    return damaged(draw, file.getvalue()) if draw(st.integers(0, 3)) == 0 else file.getvalue()


def _odd_arrays(rows: int) -> list[Any]:
    import datetime
    import decimal

    import pyarrow

    def of(values: Sequence[Any], kind: Any = None) -> Any:
        return pyarrow.array([values[row % len(values)] for row in range(rows)], type=kind)

    day = datetime.datetime(2024, 1, 1)
    return [
        *(
            of([0, 1]),
            of([0, None]),
            of([0.0, 1.0]),
            of([0.5, float("nan")]),
            of([1e300, float("inf")]),
            of([True, False]),
        ),
        *(
            of(["a", "b"]),
            of([b"a", b"\xff"]),
            of([day]),
            of([day.date()]),
            of([decimal.Decimal("1.5")]),
            of([[1], []]),
        ),
        *(of([{"x": 1}]), of([None], pyarrow.null()), of([2**63], pyarrow.uint64()), of([-1], pyarrow.int8())),
        of(["a", "b"]).dictionary_encode(),
        of([datetime.timedelta(1)]),
    ]


def matrix_bytes(draw: Draw, rows: int) -> bytes:
    """An .npy file, or what somebody took for one."""
    dtype = draw(st.sampled_from(("<f4", ">f8", "<f2", "?", "<i8", "<U3", "O", "<c8", "<M8[D]", "V3", "S2")))
    shape = draw(st.sampled_from(((rows, 3), (rows,), (rows, 0), (0, 3), (rows, 2, 2), (rows + 1, 3), (), (3, rows))))
    file = io.BytesIO()
    array = np.zeros(shape, dtype=dtype)
    if array.size and array.dtype.kind == "f" and draw(st.booleans()):
        array.reshape(-1)[0] = draw(st.sampled_from((np.nan, np.inf)))
    kind = draw(st.integers(0, 5))
    if kind == 0:
        np.savez(file, array)
    else:
        np.save(file, np.asfortranarray(array) if kind == 1 else array, allow_pickle=True)
    data = file.getvalue()
    if kind == 2:
        huge = draw(
            st.sampled_from((b"(10**9, 3)", b"(99999999999, 3)", b"(-1, 3)", b"(True, 3)", b"(" * 200, b"(1e3, 3)"))
        )
        data = data.replace(str(shape).encode(), huge)
    return damaged(draw, data) if kind == 3 else data
