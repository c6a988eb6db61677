"""Content addresses: the same content has the same name, whatever its order in a file, its path or its device."""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import numpy as np

_LENGTH = 16  # hexadecimal digits: 64 bits, plenty for the runs of one results folder


def of_json(value: Any) -> str:
    """Of a value that JSON can hold; mappings count without their order."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:_LENGTH]


def of_texts(texts: Iterable[str]) -> str:
    """Of a list of texts, in order; a text's length goes first so that no two lists collide by concatenation."""
    digest = hashlib.sha256()
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()[:_LENGTH]


def of_arrays(*arrays: np.ndarray) -> str:
    """Of arrays: their dtype, shape and values."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:_LENGTH]
