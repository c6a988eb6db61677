"""The pickle inside a file of `torch.save`, read so that nothing in it can run.

A pickle may call whatever it can name. Here it can name a few containers and, in the modules of PyG and torch_sparse,
any class; each of these names gives a class that only remembers what it is called with. Tensors and arrays are decoded
afterwards, from what was remembered. Neither PyG nor torch is needed. (`torch.load(weights_only=True)` would be the
other way, but ran code of the file's choice before torch 2.6: CVE-2025-32434.)
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
import zipfile
from typing import Any

import numpy as np

_MODULES = ("torch_geometric.data.", "torch_sparse.")
_DTYPES = {
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
_NUMPY_DTYPE = re.compile(r"[<>|=][biufSU]\d+")
_MAX_BYTES = 16 << 30


class Refused(Exception):
    """The file asks for what is not admitted."""


class Record:
    """An object of a class that is not here: what it was made with, and its attributes."""

    args: tuple[Any, ...]
    state: Any

    def __new__(cls, *args: Any) -> Record:  # and no __init__: a pickle may make an object without calling it
        record = super().__new__(cls)
        record.args, record.state = args, None
        return record

    def __setstate__(self, state: Any) -> None:
        self.state = state

    @property
    def attributes(self) -> dict[str, Any]:
        return self.state if isinstance(self.state, dict) else {}


class _Dict(dict[Any, Any]):
    def __setstate__(self, state: Any) -> None:
        pass


class _Tuple(tuple[Any, ...]):
    def __setstate__(self, state: Any) -> None:
        pass


class _Storage(Record): ...


class _Tensor(Record): ...


class _Array(Record): ...


class _Scalar(Record): ...


class _Bytes(Record): ...


_NAMES: dict[tuple[str, str], type] = {
    ("collections", "OrderedDict"): _Dict,
    ("torch", "Size"): _Tuple,
    ("torch._utils", "_rebuild_tensor_v2"): _Tensor,
    ("_codecs", "encode"): _Bytes,  # how bytes are written in the pickle protocol that torch.save uses,
    ("__builtin__", "bytes"): _Bytes,  # and no bytes
    ("numpy", "ndarray"): Record,
    ("numpy", "dtype"): Record,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Array for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _Scalar for core in ("core", "_core")},
    **{("torch", name): _Storage for name in _DTYPES},
}


def read(archive: zipfile.ZipFile) -> Any:
    """The value in it: arrays, Records, and plain Python values.

    Raises:
        Refused: it asks for what is not admitted.
        Exception: any other that a damaged file makes the zip and pickle modules raise.
    """
    pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise ValueError("it holds no data.pkl")
    _check_size(archive)
    root = pickles[0].removesuffix("data.pkl")
    if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") != b"little":
        raise Refused("its numbers are not little-endian")
    data = archive.read(pickles[0])
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name.endswith("PUT") and int(argument or 0) > len(data):  # would allocate that many places
            raise Refused("its pickle numbers more objects than it has bytes")
    return _Decoder(archive, root).decode(_Unpickler(data).load())


def _check_size(archive: zipfile.ZipFile) -> None:
    """torch.save packs nothing: what would grow in being read is none of its files."""
    entries = archive.infolist()
    if sum(entry.file_size for entry in entries) > _MAX_BYTES:
        raise Refused(f"it unpacks to more than {_MAX_BYTES >> 30} GiB")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise Refused("it is packed, which torch.save never does")


class _Unpickler(pickle.Unpickler):
    """The classes it finds are made for this one file: whatever a file does to them ends with it."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self.found: dict[tuple[str, str], type] = {}

    def find_class(self, module: str, name: str) -> Any:
        base = _NAMES.get((module, name))
        if base is None and f"{module}.".startswith(_MODULES) and "." not in name:
            base = Record
        if base is None:
            raise Refused(f"it asks for {module}.{name}, which is neither data nor a class of PyG or torch_sparse")
        key = (module, name)
        if key not in self.found:
            self.found[key] = type(name, (base,), {})
        return self.found[key]

    def persistent_load(self, pid: Any) -> Any:
        """A tensor's storage: ("storage", class, key, device, number of elements)."""
        kind, storage, key, _, size = pid
        if kind != "storage" or not isinstance(storage, type) or not isinstance(key, str) or type(size) is not int:
            raise Refused(f"a reference of an unknown form, {kind!r}")
        dtype = _DTYPES.get(storage.__name__)
        if dtype is None:
            raise Refused(f"a tensor in a {storage.__name__}")
        return _Storage(key, dtype, size)


class _Decoder:
    """Turns what was remembered into arrays; an object that several refer to stays one."""

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        self.archive, self.root = archive, root
        self.storages: dict[str, np.ndarray] = {}
        self.done: dict[int, Any] = {}

    def decode(self, value: Any) -> Any:
        if isinstance(value, _Tensor):
            return self._tensor(*value.args)
        if isinstance(value, _Array):
            return _array(value)
        if isinstance(value, _Scalar):
            return np.frombuffer(_bytes(value.args[1]), dtype=_dtype(value.args[0]), count=1)[0].item()
        if isinstance(value, _Bytes):
            return _bytes(value)
        if isinstance(value, Record) and isinstance(value.state, dict):
            if id(value) not in self.done:
                self.done[id(value)] = value
                value.state = {key: self.decode(field) for key, field in value.state.items()}
            return value
        if isinstance(value, dict):
            if id(value) not in self.done:
                self.done[id(value)] = decoded = {}
                decoded.update({key: self.decode(field) for key, field in value.items()})
            return self.done[id(value)]
        return value

    def _tensor(self, storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> np.ndarray:
        if not isinstance(storage, _Storage) or len(size) != len(stride):
            raise Refused("a tensor of an unknown form")
        if any(type(number) is not int or number < 0 for number in (offset, *size, *stride)):
            raise Refused("a tensor whose shape is not made of whole numbers")
        elements = self._elements(*storage.args)
        count = math.prod(size)
        if count == 0:
            return np.empty(size, dtype=elements.dtype)
        last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
        if last >= len(elements) or count * elements.itemsize > _MAX_BYTES:
            raise Refused("a tensor that is larger than its storage")
        steps = [step * elements.itemsize for step in stride]
        return np.lib.stride_tricks.as_strided(elements[offset:], size, steps).copy()

    def _elements(self, key: str, dtype: str, size: int) -> np.ndarray:
        if key not in self.storages:
            elements = np.frombuffer(self.archive.read(f"{self.root}data/{key}"), dtype=np.dtype(dtype))
            if len(elements) != size:
                raise ValueError(f"storage {key} has {len(elements)} elements, expected {size}")
            self.storages[key] = elements
        return self.storages[key]


def _array(value: Record) -> np.ndarray:
    """Of numpy's state: (version, shape, dtype, column by column?, bytes or, for objects, a list)."""
    _, shape, dtype, by_column, data = value.state
    order: Any = "F" if by_column else "C"
    if isinstance(data, list):
        if not all(item is None or isinstance(item, (str, int, float)) for item in data):
            raise Refused("an array of objects that are neither texts nor numbers")
        objects = np.empty(len(data), dtype=object)
        objects[:] = data
        return objects.reshape(shape, order=order)
    return np.frombuffer(_bytes(data), dtype=_dtype(dtype)).reshape(shape, order=order)


def _dtype(value: Any) -> np.dtype[Any]:
    """Of a dtype's arguments ("i8", ...) and state (version, byte order, ...)."""
    name = f"{value.state[1]}{value.args[0]}" if isinstance(value, Record) else ""
    if not _NUMPY_DTYPE.fullmatch(name):
        raise Refused(f"an array of dtype {name!r}")
    return np.dtype(name)


def _bytes(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, _Bytes) and all(isinstance(argument, str) for argument in value.args[:1]):
        return "".join(value.args[:1]).encode("latin-1")
    raise Refused("bytes of an unknown form")
