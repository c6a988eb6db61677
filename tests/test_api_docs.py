"""The extractor of `api-docs`: on a small tree with known answers, and on the packages that are installed."""

import hashlib
import json
import os
import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from stage_bench.datasets import api_docs
from stage_bench.datasets.api_docs import ApiGraph, extract
from stage_bench.errors import StageBenchError

ALGEBRA = '''
"""A module's own docstring is no node."""
import zoo

__all__ = ["Base", "Solver", "solve"]
__all__ += ["invert"]


class Base:
    """Base of the solvers."""

    def fit(self):
        """Fit it.

        See Also
        --------
        score : How good.
        solve : Not a sibling, but a function.
        """

    def score(self):
        """Score it."""

    @property
    def size(self):
        """Size of it."""

    @size.setter
    def size(self, value):
        """Setter of the size."""

    def _secret(self):
        """Private method."""

    def __len__(self):
        """Dunder method."""

    def bare(self):
        return 1

    class Inner:
        """A class in a class."""


class Solver(Base, zoo.algebra.Unknown):
    r"""Solve \\p systems; see `zoo.algebra.solve` and zoo.graphs.walk(), e.g. numpy.linalg ones."""


class _Hidden(Base):
    """Private class."""

    def fit(self):
        """Method of a private class."""


def solve(a):
    """Solve.

    Read :ref:`Guide <zoo_algebra>`, :ref:`zoo_page`, :func:`invert` and https://zoo.org/algebra.html now.

    Parameters
    ----------
    a : zoo.algebra.Matrix
        The %(matrix)s matrix.

    See Also
    --------
    invert, zoo.graphs.walk : Others.
    :meth:`~Base.fit` : With a role
        solve, indented: a description.
    solve : Itself.
    nothing_like_it
    twin : In two modules.

    Notes
    -----
    Noted.

    Subheading
    ~~~~~~~~~~
    Still noted.

    Returns
    -------
    The answer.

    >>> from zoo import algebra
    ... # continued

    References
    ----------
    .. [1] Someone.

    Examples
    --------
    >>> solve(1)
    2
    """


def invert(a):
    """Invert."""


def helper():
    """Not in `__all__`."""


def _private():
    """Private function."""
'''

WALKS = '''
__all__ = [name for name in dir()]


def walk(g):
    """Walk.

    See Also
    --------
    twin
    solve
    """


def twin():
    """Twin in the walks."""


async def stroll():
    """Stroll."""


class Walker(Solver):
    """Walks."""

    def solve(self):
        """Solve by walking.

        See Also
        --------
        walk
        """
'''

SOLVE_TEXT = """Solve.

Read `Guide`, , `invert` and now.

Parameters
a :
    The matrix.

Returns
The answer."""

FILES = {
    "__init__.py": 'def top():\n    """Directly in the package."""\n',
    "_config.py": 'def configure():\n    """In a private module of the package."""\n',
    "_private/tools.py": 'def tool():\n    """In a private subpackage."""\n',
    "algebra/__init__.py": "from ._solve import *\n",
    "algebra/_solve.py": ALGEBRA,
    "algebra/old.py": 'def solve_old(a):\n    """Invert."""\n',  # the shim of a name that moved
    "algebra/tests/test_solve.py": 'def check():\n    """A test."""\n',
    "algebra/externals/vendored.py": 'def vendored():\n    """Vendored."""\n',
    "graphs/_walks.py": WALKS,
    "graphs/_more.py": 'def twin():\n    """Twin in another module."""\n',
    "small.py": 'def lonely():\n    """Alone in its subpackage."""\n',
    "conftest.py": 'def fixture():\n    """A fixture."""\n',
    "algebra/data.txt": "not Python",
}


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    root = tmp_path / "zoo"
    for name, content in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


def named_edges(graph: ApiGraph) -> set[tuple[str, str]]:
    return {(graph.nodes[source]["id"], graph.nodes[target]["id"]) for source, target in graph.edges}


def test_nodes_of_a_small_tree(zoo: Path) -> None:
    graph = extract({"zoo": zoo}, min_class_size=2)
    assert [tuple(node.values()) for node in graph.nodes] == [
        ("zoo.algebra.Base", "Base of the solvers.", "zoo.algebra"),
        ("zoo.algebra.Base.fit", "Fit it.", "zoo.algebra"),
        ("zoo.algebra.Base.score", "Score it.", "zoo.algebra"),
        ("zoo.algebra.Base.size", "Size of it.", "zoo.algebra"),
        ("zoo.algebra.Solver", "Solve \\p systems; see and , e.g. ones.", "zoo.algebra"),
        ("zoo.algebra.invert", "Invert.", "zoo.algebra"),
        ("zoo.algebra.solve", SOLVE_TEXT, "zoo.algebra"),
        ("zoo.graphs.Walker", "Walks.", "zoo.graphs"),
        ("zoo.graphs.Walker.solve", "Solve by walking.", "zoo.graphs"),
        ("zoo.graphs._more.twin", "Twin in another module.", "zoo.graphs"),
        ("zoo.graphs._walks.twin", "Twin in the walks.", "zoo.graphs"),
        ("zoo.graphs.stroll", "Stroll.", "zoo.graphs"),
        ("zoo.graphs.walk", "Walk.", "zoo.graphs"),
    ]
    assert all(list(node) == ["id", "text", "label"] for node in graph.nodes)
    assert graph.versions == {}


def test_edges_of_a_small_tree(zoo: Path) -> None:
    graph = extract({"zoo": zoo}, min_class_size=2)
    assert graph.edges == sorted(set(graph.edges))
    assert named_edges(graph) == {
        ("zoo.algebra.Base", "zoo.algebra.Base.fit"),
        ("zoo.algebra.Base", "zoo.algebra.Base.score"),
        ("zoo.algebra.Base", "zoo.algebra.Base.size"),
        ("zoo.algebra.Base.fit", "zoo.algebra.Base.score"),
        ("zoo.algebra.Base.fit", "zoo.algebra.solve"),  # the method of another class is not meant
        ("zoo.algebra.Solver", "zoo.algebra.Base"),
        ("zoo.algebra.solve", "zoo.algebra.invert"),
        ("zoo.algebra.solve", "zoo.graphs.walk"),
        ("zoo.algebra.solve", "zoo.algebra.Base.fit"),  # and no twin: two are equally near
        ("zoo.graphs.walk", "zoo.graphs._walks.twin"),  # the one in the same module
        ("zoo.graphs.walk", "zoo.algebra.solve"),
        ("zoo.graphs.Walker", "zoo.graphs.Walker.solve"),
        ("zoo.graphs.Walker", "zoo.algebra.Solver"),
        ("zoo.graphs.Walker.solve", "zoo.graphs.walk"),
    }


def test_classes_below_the_least_size_go_with_their_nodes_and_edges(zoo: Path) -> None:
    sizes = {"zoo.algebra": 7, "zoo.graphs": 6, "zoo.small": 1}
    for least in range(1, 9):
        graph = extract({"zoo": zoo}, min_class_size=least)
        kept = {label: size for label, size in sizes.items() if size >= least}
        assert Counter(node["label"] for node in graph.nodes) == kept
        assert all(0 <= end < len(graph.nodes) for edge in graph.edges for end in edge)
    assert graph == ApiGraph(nodes=[], edges=[], versions={})


def test_several_packages_share_one_graph(zoo: Path, tmp_path: Path) -> None:
    farm = tmp_path / "farm" / "barn"
    farm.mkdir(parents=True)
    (farm / "_cows.py").write_text('class Cow(Base):\n    """A cow.\n\n    See Also\n    --------\n    milk\n    """\n')
    (farm / "milk.py").write_text('def milk():\n    """Milk."""\n\n\ndef solve():\n    """Solve the barn."""\n')
    graph = extract({"zoo": zoo, "farm": farm.parent}, min_class_size=2)
    edges = named_edges(graph)
    assert ("farm.barn.Cow", "zoo.algebra.Base") in edges  # the only Base there is
    assert ("farm.barn.Cow", "farm.barn.milk.milk") in edges
    assert ("zoo.graphs.walk", "zoo.algebra.solve") in edges  # nearer than farm.barn.milk.solve
    assert graph == extract({"farm": farm.parent, "zoo": zoo}, min_class_size=2)


@pytest.mark.parametrize("content", [b"def broken(:\n", b"text = '\xff'\n", b"nul = '\0'\n"])
def test_an_unreadable_file_is_an_error_in_one_line(zoo: Path, content: bytes) -> None:
    (zoo / "graphs" / "broken.py").write_bytes(content)
    with pytest.raises(StageBenchError, match=r"broken\.py cannot be read as Python") as caught:
        extract({"zoo": zoo})
    assert "\n" not in str(caught.value)


def test_invalid_escapes_give_no_warning(zoo: Path, recwarn: pytest.WarningsRecorder) -> None:
    (zoo / "graphs" / "escapes.py").write_text('def escaped():\n    """Escaped \\d."""\n')
    graph = extract({"zoo": zoo}, min_class_size=1)
    assert "Escaped \\d." in {node["text"] for node in graph.nodes}
    assert not recwarn.list


def test_an_absent_package_is_an_error_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(StageBenchError, match="is not a folder"):
        extract({"zoo": tmp_path / "absent"})
    monkeypatch.setattr(api_docs, "PACKAGES", {"zoo_that_is_absent": "zoo-that-is-absent"})
    with pytest.raises(StageBenchError, match="`pip install zoo-that-is-absent`"):
        api_docs.installed_versions()
    with pytest.raises(StageBenchError, match="`pip install zoo-that-is-absent`"):
        extract()


@pytest.fixture(scope="module")
def graph() -> ApiGraph:
    return extract()


def digest(graph: ApiGraph) -> str:
    return hashlib.sha256(json.dumps([graph.nodes, graph.edges, graph.versions]).encode()).hexdigest()


def test_the_installed_packages_give_a_graph_of_the_expected_size(graph: ApiGraph) -> None:
    sizes = Counter(node["label"] for node in graph.nodes)
    assert 2500 <= len(graph.nodes) <= 4500
    assert 15 <= len(sizes) <= 27
    assert min(sizes.values()) >= 60
    assert 2500 <= len(graph.edges) <= 5500
    assert {"scipy.optimize", "scipy.stats", "sklearn.linear_model", "networkx.algorithms"} <= sizes.keys()
    assert graph.versions == api_docs.installed_versions()
    assert set(graph.versions) == {"scipy", "scikit-learn", "networkx"}


def test_nodes_and_edges_are_sorted_and_distinct(graph: ApiGraph) -> None:
    ids = [node["id"] for node in graph.nodes]
    assert ids == sorted(set(ids))
    assert len({node["text"] for node in graph.nodes}) == len(ids)
    assert all(node["text"] == node["text"].strip() != "" for node in graph.nodes)
    assert all(node["id"].startswith(node["label"] + ".") for node in graph.nodes)
    assert graph.edges == sorted(set(graph.edges))
    assert all(source != target for source, target in graph.edges)


def test_known_objects_and_relations_are_there(graph: ApiGraph) -> None:
    edges = named_edges(graph)
    assert ("scipy.optimize.minimize", "scipy.optimize.minimize_scalar") in edges
    assert ("sklearn.linear_model.ElasticNet", "sklearn.linear_model.ElasticNet.fit") in edges
    assert ("sklearn.linear_model.Lasso", "sklearn.linear_model.ElasticNet") in edges
    assert ("networkx.classes.digraph.DiGraph", "networkx.classes.graph.Graph") in edges


def test_texts_name_no_module(graph: ApiGraph) -> None:
    texts = "\n\n".join(node["text"] for node in graph.nodes)
    labels = {node["label"] for node in graph.nodes}
    assert not any(path in texts for label in labels for path in (label, label.replace(".", "/")))
    assert set(re.findall(r"[^\W\d]\w*(?:\.[^\W\d]\w*)+", texts)) == {"e.g", "i.e"}
    for trace in (">>> ", "https://", "sphx_glr", ":ref:", "See Also\n", "%("):
        assert trace not in texts


def test_edges_join_nodes_of_one_class(graph: ApiGraph) -> None:
    labels = [node["label"] for node in graph.nodes]
    assert sum(labels[source] == labels[target] for source, target in graph.edges) > 0.9 * len(graph.edges)


def test_another_process_and_hash_seed_give_the_same_bytes_and_import_no_package(graph: ApiGraph) -> None:
    assert digest(extract()) == digest(graph)
    program = (
        "import sys, hashlib, json\n"
        "from stage_bench.datasets.api_docs import extract\n"
        "graph = extract()\n"
        "print(hashlib.sha256(json.dumps([graph.nodes, graph.edges, graph.versions]).encode()).hexdigest())\n"
        "loaded = {name.partition('.')[0] for name in sys.modules}\n"
        "print(*loaded & {'scipy', 'sklearn', 'networkx', 'numpy', 'pandas', 'torch'})\n"
    )
    source_root = Path(api_docs.__file__).parents[2]
    environment = os.environ | {"PYTHONHASHSEED": "4321", "PYTHONPATH": str(source_root)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [digest(graph)]
    assert done.stderr == ""


def test_labels_can_be_told_from_texts_and_not_by_chance(graph: ApiGraph) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    def accuracy(texts: list[str]) -> float:
        features = TfidfVectorizer(sublinear_tf=True, min_df=2).fit_transform(texts)
        order = list(range(len(texts)))
        random.Random(0).shuffle(order)
        train, test = order[: len(order) * 60 // 100], order[len(order) * 80 // 100 :]
        model = LogisticRegression(C=10, max_iter=200).fit(features[train], [labels[node] for node in train])
        return float(model.score(features[test], [labels[node] for node in test]))

    labels = [node["label"] for node in graph.nodes]
    texts = [node["text"] for node in graph.nodes]
    assert accuracy(texts) > 0.85
    random.Random(1).shuffle(texts)
    assert accuracy(texts) < 0.35
