"""Files of word vectors, as GloVe and word2vec write them.

* text, any name: a line a word, the word and its numbers divided by spaces; word2vec's begins with a line of two
  numbers, how many words and how many dimensions.
* word2vec's binary format, `.bin`: the same first line, then each word, a space and its numbers as float32.
Either may be compressed (`.gz`). They are read word by word, and only what is asked for is kept.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Container, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import IO, cast

import numpy as np

from stage_bench.errors import JobError

_CHUNK = 1 << 22  # bytes


def read(path: Path, columns: Mapping[bytes, int]) -> dict[int, np.ndarray]:
    """float32 [dimension] by column, in their order, for each word (UTF-8) of `columns` that the file has.

    Where a word stands there twice, the first counts.

    Raises:
        JobError: the file is damaged, incomplete or of another format; with the line, where it has lines.
    """
    find = _in_binary if path.name.removesuffix(".gz").endswith(".bin") else _in_text
    found: dict[int, np.ndarray] = {}
    try:
        with cast(IO[bytes], gzip.open(path) if path.suffix == ".gz" else path.open("rb")) as file:
            for word, vector in find(file, columns, path):
                if not np.isfinite(vector).all():
                    raise JobError(f"{path}: the vector of '{word.decode()}' is not finite")
                found.setdefault(columns[word], vector)
    except (OSError, EOFError, zlib.error) as error:
        raise JobError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    return dict(sorted(found.items()))


def _in_text(file: IO[bytes], wanted: Container[bytes], path: Path) -> Iterator[tuple[bytes, np.ndarray]]:
    first = line = file.readline()
    header = _header(first)
    words, dimension = header or (None, len(first.split()) - 1)
    if dimension < 1:
        raise JobError(f"{path}:1: neither a word and its numbers, nor two numbers, of words and of dimensions")
    number = begin = 1 if header else 0
    for number, line in enumerate(file if header else chain([first], file), begin + 1):
        word, _, rest = line.partition(b" ")
        if word not in wanted:
            continue
        values = rest.split()
        if len(values) > dimension:  # a word with a space in it, such as some of GloVe's
            continue
        if len(values) < dimension:
            raise JobError(f"{path}:{number}: a word with {len(values)} numbers, not {dimension}")
        try:
            yield word, np.array([float(value) for value in values], dtype=np.float32)
        except ValueError:
            raise JobError(f"{path}:{number}: not a word and its numbers") from None
    if words not in (None, number - begin):
        raise JobError(f"{path}: holds {number - begin:,} words; its first line says {words:,}")
    if len(line.split()) <= dimension:
        raise JobError(f"{path}:{number}: the last line is not whole")


def _in_binary(file: IO[bytes], wanted: Container[bytes], path: Path) -> Iterator[tuple[bytes, np.ndarray]]:
    header = _header(file.readline(100))
    if header is None:
        raise JobError(f"{path}: not in word2vec's binary format, which begins with two numbers")
    words, dimension = header
    buffer, at = b"", 0
    for number in range(words):
        while (space := buffer.find(b" ", at)) < 0 or len(buffer) <= space + 4 * dimension:
            more = file.read(_CHUNK)
            if not more:
                raise JobError(f"{path}: ends after {number:,} words; its first line says {words:,}")
            buffer, at = buffer[at:] + more, 0
        word = buffer[at:space].lstrip(b"\n")
        at = space + 1 + 4 * dimension
        if word in wanted:
            yield word, np.frombuffer(buffer[space + 1 : at], dtype="<f4")


def _header(line: bytes) -> tuple[int, int] | None:
    """How many words, and how many dimensions; None where the line is no header."""
    fields = line.split()
    if len(fields) != 2 or not all(field.isdigit() for field in fields):
        return None
    words, dimension = map(int, fields)
    return (words, dimension) if words and dimension else None
