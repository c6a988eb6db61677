"""Splits: TAPE's rule to the node, and what a prescribed split may not be."""

from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from stage_bench.datasets import folder
from stage_bench.datasets.splits import Split, fixed_split, random_shares, random_split
from stage_bench.errors import StageBenchError

RULE = "random-60-20-20"


def tape_split(num_nodes: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """TAPE's code (arXiv 2305.19523, core/data_utils/load_cora.py), its names and all."""
    np.random.seed(seed)
    node_id = np.arange(num_nodes)
    np.random.shuffle(node_id)
    train_id = np.sort(node_id[: int(num_nodes * 0.6)])
    val_id = np.sort(node_id[int(num_nodes * 0.6) : int(num_nodes * 0.8)])
    test_id = np.sort(node_id[int(num_nodes * 0.8) :])
    return train_id, val_id, test_id


def parts(split: Split) -> list[list[int]]:
    return [split.train.tolist(), split.val.tolist(), split.test.tolist()]


@pytest.mark.parametrize("num_nodes", [10, 11, 12, 13, 14, 969, 2708, 19717, 46198])
@pytest.mark.parametrize("seed", [0, 1, 2, 3, 42, 2**32 - 1])
def test_the_random_rule_is_tapes(num_nodes: int, seed: int):
    split = random_split(np.zeros(num_nodes, dtype=np.int64), RULE, seed)
    assert parts(split) == [ids.tolist() for ids in tape_split(num_nodes, seed)]
    assert (split.protocol, split.seed) == (RULE, seed)
    assert {ids.dtype for ids in (split.train, split.val, split.test)} == {np.dtype(np.int64)}


def test_the_cuts_are_tapes_for_every_size():
    for num_nodes in [*range(5, 400), 117_659, 169_343, 2_449_029]:
        first, second = int(num_nodes * 0.6), int(num_nodes * 0.8)
        sizes = random_split(np.zeros(num_nodes, dtype=np.int64), RULE, 0).sizes
        assert sizes == (first, second - first, num_nodes - second)


def test_splitting_leaves_numpys_generator_alone():
    np.random.seed(7)
    before = np.random.get_state()[1].tolist()
    random_split(np.zeros(50, dtype=np.int64), RULE, 0)
    assert np.random.get_state()[1].tolist() == before


def test_nodes_without_a_label_belong_to_no_part():
    labels = np.where(np.arange(100) % 4 == 0, -1, 1)
    split = random_split(labels, RULE, 3)
    labelled = np.flatnonzero(labels >= 0)
    assert sorted(chain(*parts(split))) == labelled.tolist()
    # The rule is applied to the labelled nodes as if there were no others.
    assert parts(split) == [labelled[ids].tolist() for ids in tape_split(len(labelled), 3)]


@pytest.mark.parametrize(("protocol", "sizes"), [("random-80-10-10", (80, 10, 10)), ("random-1-1-98", (1, 1, 98))])
def test_other_percentages(protocol: str, sizes: tuple[int, int, int]):
    split = random_split(np.zeros(100, dtype=np.int64), protocol, 0)
    assert split.sizes == sizes
    assert sorted(chain(*parts(split))) == list(range(100))


def test_which_protocols_are_random():
    assert random_shares(RULE) == (60, 20, 20)
    for protocol in ("official", "column", "public", "random", "random-60-20", "random-60-20-20-0", "Random-60-20-20"):
        assert random_shares(protocol) is None
    for protocol in ("random-60-20-30", "random-100-0-0", "random-0-50-50", "random-1-1-1"):
        with pytest.raises(StageBenchError, match=f"^split '{protocol}': the three shares are percentages above 0"):
            random_shares(protocol)


@pytest.mark.parametrize(
    ("num_nodes", "protocol", "part"),
    [(2, RULE, "val"), (1, RULE, "train"), (0, RULE, "train"), (40, "random-98-1-1", "val")],
)
def test_too_few_nodes_for_every_part(num_nodes: int, protocol: str, part: str):
    message = f"^split '{protocol}' of {num_nodes} labelled nodes leaves the {part} part empty$"
    with pytest.raises(StageBenchError, match=message):
        random_split(np.zeros(num_nodes, dtype=np.int64), protocol, 0)


def test_a_fixed_split_is_sorted_and_has_no_seed():
    labels = np.array([0, 1, 0, -1, 1, 0])
    split = fixed_split(
        labels, "file", {"train": np.array([5, 0]), "val": np.array([2]), "test": np.array([4, 1])}, "x"
    )
    assert parts(split) == [[0, 5], [2], [1, 4]]
    assert (split.protocol, split.seed, split.sizes) == ("file", None, (2, 1, 2))


@pytest.mark.parametrize(
    ("train", "val", "test", "message"),
    [
        ([0], [1], [], "the test part is empty"),
        ([0], [1], [6], "the test part names node 6, but the nodes are 0 to 5"),
        ([-1], [1], [2], "the train part names node -1, but the nodes are 0 to 5"),
        ([0], [3, 5], [2], "node 3 belongs to the val part but has no label (2 such)"),
        ([0], [1], [0], "node 0 belongs to both train and test"),
        ([0, 0], [1], [2], "the train part names node 0 twice"),
    ],
)
def test_fixed_splits_that_are_refused(train: list[int], val: list[int], test: list[int], message: str):
    labels = np.array([0, 1, 0, -1, 1, -1])
    given = {"train": train, "val": val, "test": test}
    with pytest.raises(StageBenchError) as caught:
        fixed_split(labels, "file", {part: np.array(ids, dtype=np.int64) for part, ids in given.items()}, "split.json")
    assert str(caught.value) == f"split.json: {message}"


def test_the_fingerprint_is_of_the_nodes_alone():
    labels = np.zeros(50, dtype=np.int64)
    first = random_split(labels, RULE, 0)
    assert first.fingerprint == random_split(labels + 1, RULE, 0).fingerprint
    again = Split("file", None, first.train, first.val, first.test)
    assert first.fingerprint == again.fingerprint
    swapped = Split("file", None, first.train, first.test, first.val)
    others = [random_split(labels, RULE, seed).fingerprint for seed in range(1, 20)]
    assert len({first.fingerprint, swapped.fingerprint, *others}) == 21


def test_a_graph_offers_its_fixed_splits_and_the_random_ones(tiny_folder):
    path: Path = tiny_folder(splits={"protocol": "file"})
    (path / "split.json").write_text('{"train": [0, 1, 2], "valid": [3], "test": [4, 5]}')
    (path / "split_public.json").write_text('{"train": [9, 8], "val": [3], "test": [4]}')
    graph = folder.load(path)
    assert graph.default_split == "file"
    assert parts(graph.split("file", 5)) == [[0, 1, 2], [3], [4, 5]]
    assert graph.split("file", 5).fingerprint == graph.split("file", 6).fingerprint
    assert parts(graph.split("public", 0)) == [[8, 9], [3], [4]]
    assert parts(graph.split(RULE, 1)) == [ids.tolist() for ids in tape_split(40, 1)]
    assert [graph.is_random(protocol) for protocol in ("file", "public", RULE)] == [False, False, True]
    with pytest.raises(StageBenchError, match=r"^tiny has no split 'official' \(valid: file, public, random-60-20-20"):
        graph.split("official", 0)
