"""Files of torch.save: everything that is data comes out, nothing in them runs."""

import io
import os
import pickle
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pyg_files
from stage_bench.datasets.upstream import torch_files
from stage_bench.errors import StageBenchError

ROW, COL = [0, 0, 1, 3], [1, 2, 2, 0]


def refuses(path: Path) -> str:
    with pytest.raises(StageBenchError) as caught:
        torch_files.read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def with_pickle(path: Path, data: bytes, **entries: bytes) -> Path:
    """A file of torch.save's form around any pickle."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        for name, content in entries.items():
            archive.writestr(f"archive/{name}", content)
    return path


@pytest.mark.parametrize("layout", ["new", "old", "dict"])
def test_the_fields_of_data(tmp_path: Path, layout: str):
    torch.manual_seed(0)
    fields = {
        "x": torch.randn(4, 3),
        "y": torch.tensor([[1], [0], [2], [1]]),
        "edge_index": torch.tensor([ROW, COL]),
        "train_mask": torch.tensor([True, False, True, False]),
        "num_nodes": 4,
        "n_id": np.array([10, 11, 12, 13]),
        "n_asin": np.array(["A", "B", "ü", "0123"], dtype=object),
        "names": ["a", "b", "c", "d"],
    }
    read = torch_files.read(pyg_files.save(tmp_path / "graph.pt", layout, fields))
    assert set(read) == set(fields)
    for name in ("x", "y", "edge_index", "train_mask"):
        assert isinstance(read[name], np.ndarray)
        assert read[name].dtype == fields[name].numpy().dtype
        np.testing.assert_array_equal(read[name], fields[name].numpy())
    assert read["num_nodes"] == 4
    assert read["names"] == ["a", "b", "c", "d"]
    assert read["n_id"].tolist() == [10, 11, 12, 13]
    assert read["n_asin"].tolist() == ["A", "B", "ü", "0123"]
    np.testing.assert_array_equal(torch_files.edges(Path(), read), [ROW, COL])
    assert torch_files.vector(Path(), read, "y").tolist() == [1, 0, 2, 1]
    assert torch_files.vector(Path(), read, "names").tolist() == ["a", "b", "c", "d"]


@pytest.mark.parametrize("layout", ["new", "old", "dict"])
@pytest.mark.parametrize("rowptr", [False, True])
def test_a_sparse_matrix(tmp_path: Path, layout: str, rowptr: bool):
    """Rows of the transposed adjacency matrix are where an edge ends."""
    path = pyg_files.save(tmp_path / "g.pt", layout, {"y": torch.zeros(5)}, (ROW, COL, 5), rowptr=rowptr)
    np.testing.assert_array_equal(torch_files.edges(path, torch_files.read(path)), [COL, ROW])


@pytest.mark.parametrize(
    "dtype", ["float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool"], ids=str
)
def test_every_dtype(tmp_path: Path, dtype: str):
    value = torch.tensor([[0, 1, 1], [1, 0, 1]]).to(getattr(torch, dtype))
    torch.save({"v": value}, tmp_path / "v.pt")
    read = torch_files.read(tmp_path / "v.pt")["v"]
    assert str(read.dtype) == dtype
    assert read.tolist() == value.tolist()


@pytest.mark.parametrize(
    "value",
    [
        torch.arange(24).reshape(2, 3, 4),
        torch.arange(24).reshape(4, 6).T,
        torch.arange(24)[3:20:4],
        torch.arange(24).reshape(4, 6)[1:3, 2:4],
        torch.tensor(3.5),
        torch.zeros(0, 7),
        torch.arange(3).expand(4, 3),
        torch.nn.Parameter(torch.ones(2)).data,
    ],
    ids=["plain", "transposed", "steps", "cut", "scalar", "empty", "expanded", "parameter"],
)
def test_views(tmp_path: Path, value: torch.Tensor):
    torch.save({"a": value, "again": value}, tmp_path / "v.pt")
    read = torch_files.read(tmp_path / "v.pt")
    for name in ("a", "again"):
        assert read[name].shape == tuple(value.shape)
        np.testing.assert_array_equal(read[name], value.numpy())


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6).reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(3, dtype=">i4"),
        np.array(["ab", "ü€", ""]),
        np.array([b"ab", b"c"]),
        np.array([["a", None], ["b", 3]], dtype=object),
        np.array([True, False]),
        np.empty((0, 2), dtype=np.float32),
    ],
    ids=["ints", "by-column", "big-endian", "texts", "bytes", "objects", "bools", "empty"],
)
def test_numpy_arrays(tmp_path: Path, array: np.ndarray):
    torch.save({"a": array, "scalar": np.float32(2.5)}, tmp_path / "a.pt")
    read = torch_files.read(tmp_path / "a.pt")
    assert read["a"].dtype == array.dtype
    assert read["a"].tolist() == array.tolist()
    assert read["scalar"] == 2.5


def test_arrays_of_numpy_1(tmp_path: Path):
    """Before 2.0 the module had another name."""
    with pyg_files.classes():
        buffer = io.BytesIO()
        torch.save({"a": np.arange(3)}, buffer)
    with zipfile.ZipFile(buffer) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert torch_files.read(tmp_path / "a.pt")["a"].tolist() == [0, 1, 2]


def test_an_ordered_dict(tmp_path: Path):
    torch.save(OrderedDict(y=torch.ones(2), size=torch.Size([1, 2])), tmp_path / "a.pt")
    read = torch_files.read(tmp_path / "a.pt")
    assert read["y"].tolist() == [1, 1]
    assert read["size"] == (1, 2)


def test_neither_torch_nor_pyg_is_needed(tmp_path: Path):
    """And what a file makes is not left behind."""
    path = pyg_files.save(tmp_path / "g.pt", "new", {"y": torch.zeros(2)}, (ROW, COL, 5))
    code = (
        "import sys; from pathlib import Path; from stage_bench.datasets.upstream import torch_files\n"
        "torch_files.read(Path(sys.argv[1]))\n"
        "print([name for name in ('torch', 'torch_geometric', 'torch_sparse') if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert out.stdout == "[]\n"


class _Call:
    """What a pickle makes of this is a call."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.function, self.args = function, args

    def __reduce__(self) -> Any:
        return self.function, self.args


@pytest.mark.parametrize("protocol", [0, 1, 2, 4, 5])
@pytest.mark.parametrize("where", ["alone", "in a dict", "in data", "in numpy"])
def test_nothing_runs(tmp_path: Path, protocol: int, where: str):
    marker = tmp_path / "marker"
    evil: Any = _Call(os.system, f"touch {marker}")
    if where == "in a dict":
        evil = {"y": [evil]}
    if where == "in numpy":
        evil = {"y": np.array([evil], dtype=object)}
    with pyg_files.classes() as made:
        if where == "in data":
            evil = pyg_files.data(made, "new", {"y": evil})
        data = pickle.dumps(evil, protocol=protocol)
    with pyg_files.classes():
        pickle.loads(data)
    assert marker.exists(), "the file would do it"
    marker.unlink()
    message = refuses(with_pickle(tmp_path / "evil.pt", data))
    if protocol >= 2 or where == "alone":  # the older ones ask for copyreg first
        assert message == (
            "refused, and nothing in it was run: it asks for posix.system, which is neither data nor a class of PyG or "
            "torch_sparse"
        )
    assert message.startswith("refused, and nothing in it was run: it asks for ")
    assert not marker.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("torch", "load"),
        ("torch", "os.system"),
        ("torch.storage", "_load_from_bytes"),
        ("numpy", "load"),
        ("torch_geometric", "io"),
        ("torch_geometric.datax", "Data"),
        ("torch_geometric.data.data", "os.system"),
        ("torch_sparse.tensor", "torch.load"),
        ("stage_bench.datasets.upstream.torch_files", "read"),
        ("__main__", "Data"),
        ("collections", "namedtuple"),
        ("_codecs", "lookup"),
    ],
)
def test_names_that_are_not_admitted(tmp_path: Path, module: str, name: str):
    data = b"\x80\x04" + b"".join(b"\x8c" + bytes([len(text)]) + text.encode() for text in (module, name)) + b"\x93."
    message = refuses(with_pickle(tmp_path / "a.pt", data))
    assert f"it asks for {module}.{name}, which" in message


def test_a_file_cannot_change_what_the_next_one_finds(tmp_path: Path):
    """State for a class itself, in place of an object of it: attributes to set on the class."""
    name, value = b"X\x0a\x00\x00\x00attributes", b"X\x04\x00\x00\x00evil"
    evil = b"\x80\x02ctorch_geometric.data.data\nData\nN}" + name + value + b"s\x86b."
    assert refuses(with_pickle(tmp_path / "evil.pt", evil)).startswith("damaged")
    path = pyg_files.save(tmp_path / "g.pt", "new", {"y": torch.ones(2)})
    assert torch_files.read(path)["y"].tolist() == [1, 1]


def test_a_class_of_pyg_that_is_not_known_here_is_only_remembered(tmp_path: Path):
    data = b"\x80\x02}X\x01\x00\x00\x00yctorch_geometric.data.later\nNew\nX\x03\x00\x00\x00arg\x85Rs."
    read = torch_files.read(with_pickle(tmp_path / "a.pt", data))
    assert read["y"].args == ("arg",)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.9, 0.999])
def test_a_file_that_is_cut_short(tmp_path: Path, share: float):
    path = pyg_files.save(tmp_path / "g.pt", "new", {"y": torch.zeros(1000)})
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    message = refuses(path)
    assert message.startswith("damaged, or not a file of torch.save since torch 1.6 (")
    assert message.endswith("); delete it to fetch it again")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_pickle_that_is_cut_short(tmp_path: Path, share: float):
    buffer = io.BytesIO()
    torch.save({"y": torch.zeros(10), "z": ["a"] * 10}, buffer)
    with zipfile.ZipFile(buffer) as archive:
        data = archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
    assert refuses(with_pickle(tmp_path / "a.pt", data[: int(len(data) * share)])).startswith("damaged")


def test_a_storage_that_is_cut_short(tmp_path: Path):
    buffer = io.BytesIO()
    torch.save({"y": torch.zeros(10)}, buffer)
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        for name in source.namelist():
            archive.writestr(name, source.read(name)[:36] if name.endswith("data/0") else source.read(name))
    assert "storage 0 has 9 elements, expected 10" in refuses(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (0, (11,), (1,)),
        (1, (10,), (1,)),
        (0, (2, 2), (9, 1)),
        (-1, (1,), (1,)),
        (0, (2,), (-1,)),
        (0, (10**9,) * 3, (0,) * 3),
    ],
)
def test_a_tensor_outside_its_storage(tmp_path: Path, offset: int, size: tuple[int, ...], stride: tuple[int, ...]):
    class Tensor:
        def __reduce__(self) -> Any:
            storage = _Persistent()
            return torch._utils._rebuild_tensor_v2, (storage, offset, size, stride, False, OrderedDict())

    class _Persistent:
        pass

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            return ("storage", torch.FloatStorage, "0", "cpu", 10) if isinstance(obj, _Persistent) else None

    buffer = io.BytesIO()
    Pickler(buffer, 2).dump({"y": Tensor()})
    path = with_pickle(tmp_path / "a.pt", buffer.getvalue(), **{"data/0": bytes(40)})
    assert refuses(path).startswith("refused, and nothing in it was run: a tensor ")


def test_a_memo_that_would_fill_the_memory(tmp_path: Path):
    data = b"\x80\x02}r\xff\xff\xff\xff."
    assert "numbers more objects than it has bytes" in refuses(with_pickle(tmp_path / "a.pt", data))


@pytest.mark.parametrize(
    ("content", "what"),
    [([1, 2], "holds a list, neither PyG's Data nor a dict"), (torch.ones(2), "holds a ndarray, neither")],
)
def test_other_contents(tmp_path: Path, content: Any, what: str):
    torch.save(content, tmp_path / "a.pt")
    assert refuses(tmp_path / "a.pt").startswith(what)


def test_the_old_file_format(tmp_path: Path):
    torch.save({"y": torch.ones(2)}, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    assert refuses(tmp_path / "a.pt").startswith("damaged, or not a file of torch.save since torch 1.6 (")


@pytest.mark.parametrize("content", [b"", b"<html>", pickle.dumps({"y": 1})])
def test_no_file_of_torch(tmp_path: Path, content: bytes):
    (tmp_path / "a.pt").write_bytes(content)
    assert refuses(tmp_path / "a.pt").startswith("damaged, or not a file of torch.save")


def test_no_file(tmp_path: Path):
    assert refuses(tmp_path / "a.pt") == "no such file"


@pytest.mark.parametrize("name", ["bfloat16", "complex64"])
def test_dtypes_that_are_not_admitted(tmp_path: Path, name: str):
    torch.save({"y": torch.ones(2, dtype=getattr(torch, name))}, tmp_path / "a.pt")
    assert "it asks for torch." in refuses(tmp_path / "a.pt")


@pytest.mark.parametrize("value", [np.array(["2020-01-01"], dtype="M8[D]"), np.zeros(2, dtype=[("a", "i4")])])
def test_arrays_that_are_not_admitted(tmp_path: Path, value: np.ndarray):
    torch.save({"y": value}, tmp_path / "a.pt")
    assert "an array of dtype" in refuses(tmp_path / "a.pt")


def test_what_the_fields_must_be():
    path, fields = Path("g.pt"), {"y": np.zeros((3, 2)), "x": 3, "edge_index": np.zeros((2, 4)), "adj_t": 1}
    with pytest.raises(StageBenchError, match=r"g\.pt: holds no 'z' \(there are adj_t, edge_index, x, y\)"):
        torch_files.vector(path, fields, "z")
    with pytest.raises(StageBenchError, match=r"'y' is \(3, 2\), expected one value a node"):
        torch_files.vector(path, fields, "y")
    with pytest.raises(StageBenchError, match="'x' is int, expected one value a node"):
        torch_files.vector(path, fields, "x")
    with pytest.raises(StageBenchError, match="neither 'edge_index' nor 'adj_t' holds edges"):
        torch_files.edges(path, fields)
    with pytest.raises(StageBenchError, match="neither 'edge_index' nor 'adj_t' holds edges"):
        torch_files.edges(path, {"adj_t": 1})
    with pytest.raises(StageBenchError, match="'y' holds float64, expected whole numbers"):
        torch_files.labels(path, {"y": np.zeros(3)})


@pytest.mark.parametrize("rowptr", [[0, 2, 1, 4], [0, 1, 2, 3], [0.0, 1.0, 2.0, 4.0]])
def test_a_sparse_matrix_that_is_none(tmp_path: Path, rowptr: list[float]):
    with pyg_files.classes() as made:
        matrix = pyg_files.sparse(made, ROW, COL, 5)
        matrix.storage.__dict__ |= {"_row": None, "_rowptr": torch.tensor(rowptr)}
        torch.save({"adj_t": matrix}, tmp_path / "g.pt")
    with pytest.raises(StageBenchError, match="neither 'edge_index' nor 'adj_t' holds edges"):
        torch_files.edges(tmp_path / "g.pt", torch_files.read(tmp_path / "g.pt"))


def test_what_is_packed_is_none_of_torch_save_s(tmp_path: Path):
    """Else a small file could fill the memory."""
    with zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"x": bytes(1 << 24)}))
    assert refuses(tmp_path / "a.pt").endswith("nothing in it was run: it is packed, which torch.save never does")
