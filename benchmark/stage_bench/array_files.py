"""Archives of NumPy arrays (.npz): nothing in them runs, and a small file does not fill the memory."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

_MOST_BYTES = 4 << 30


def read(path: Path) -> dict[str, np.ndarray]:
    """Every array by its name.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, holds objects, which would have to be unpickled, or unpacks without end; says which.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > _MOST_BYTES:
            raise ValueError(f"it unpacks to {size:,} bytes")
        with np.load(path, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
        if strange := [name for name, array in found.items() if not isinstance(array, np.ndarray)]:
            raise ValueError(f"{strange[0]} is no array")
        return found
    except FileNotFoundError:
        raise
    except Exception as error:  # whatever a damaged file makes zipfile and numpy's parser raise
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from None
