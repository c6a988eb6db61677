"""Weights of an ensemble's members: against brute force, scipy and a slow selection; what it is shown, and refuses."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from scipy.optimize import minimize

from stage_bench.errors import JobError
from stage_bench.training import ensembles, weighting

NODES, CLASSES = 60, 4


def members(count: int, seed: int = 0, skill: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities [count, NODES, CLASSES] of members that know the labels, the later ones better; and the labels."""
    state = np.random.RandomState(seed)
    labels = state.randint(0, CLASSES, NODES)
    known = np.eye(CLASSES)[labels] * skill * np.linspace(0.5, 1.5, count)[:, None, None]
    logits = known + state.randn(count, NODES, CLASSES)
    exponentials = np.exp(logits)
    return exponentials / exponentials.sum(axis=2, keepdims=True), labels


def cross_entropy(weights: np.ndarray, probabilities: np.ndarray, labels: np.ndarray) -> float:
    mixed = np.einsum("m,mnc->nc", weights, probabilities)
    return float(-np.log(mixed[np.arange(len(labels)), labels]).mean())


@pytest.mark.parametrize("seed", range(4))
def test_fitted_is_the_best_of_a_grid_and_of_slsqp(seed):
    probabilities, labels = members(3, seed)
    found = weighting.fitted(probabilities, labels)
    assert found.sum() == pytest.approx(1)
    assert (found >= 0).all()
    own = cross_entropy(found, probabilities, labels)
    steps = np.arange(101) / 100
    grid = [np.array([a, b, 1 - a - b]) for a in steps for b in steps if a + b <= 1 + 1e-9]
    losses = [cross_entropy(weights, probabilities, labels) for weights in grid]
    assert own <= min(losses) + 1e-7
    assert np.abs(found - grid[int(np.argmin(losses))]).max() < 0.02
    solved = minimize(
        cross_entropy,
        np.full(3, 1 / 3),
        (probabilities, labels),
        bounds=[(0, 1)] * 3,
        constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1},
        options={"ftol": 1e-12},
    )
    assert own == pytest.approx(solved.fun, abs=1e-6)


def test_fitted_leaves_out_a_member_that_only_harms():
    probabilities, labels = members(2, skill=3)
    wrong = np.roll(np.eye(CLASSES)[labels], 1, axis=1) * 0.9 + 0.025
    weights = weighting.fitted(np.stack([*probabilities, wrong]), labels)
    assert weights[2] < 1e-3
    assert cross_entropy(weights, np.stack([*probabilities, wrong]), labels) == pytest.approx(
        cross_entropy(weighting.fitted(probabilities, labels), probabilities, labels), abs=1e-6
    )


def test_fitted_with_a_node_that_no_member_holds_possible():
    """Stored in float16, a small probability is 0; such a node says nothing about the weights."""
    probabilities, labels = members(3)
    changed = probabilities.copy()
    changed[:, 0] = np.eye(CLASSES)[(labels[0] + 1) % CLASSES]
    expected = weighting.fitted(probabilities[:, 1:], labels[1:])
    np.testing.assert_allclose(weighting.fitted(changed, labels), expected, atol=1e-3)


def slow_greedy(probabilities: np.ndarray, labels: np.ndarray, rounds: int = 50) -> list[Fraction]:
    """Caruana's selection from bags of indices, each mean taken anew."""

    def badness(bag: list[int]) -> tuple[int, float]:
        mean = np.mean([probabilities[member] for member in bag], axis=0)
        right = mean[np.arange(len(labels)), labels]
        return int((mean.argmax(axis=1) != labels).sum()), round(float(-np.log(right).mean()), 10)

    bags: list[list[int]] = [[]]
    for _ in range(rounds):
        bags.append(min(([*bags[-1], member] for member in range(len(probabilities))), key=badness))
    best = min(bags[1:], key=badness)
    return [Fraction(best.count(member), len(best)) for member in range(len(probabilities))]


@pytest.mark.parametrize("count", [2, 5])
@pytest.mark.parametrize("seed", range(4))
def test_greedy_is_the_slow_selection(seed, count):
    probabilities, labels = members(count, seed)
    assert weighting.greedy(probabilities, labels) == pytest.approx(
        [float(x) for x in slow_greedy(probabilities, labels)]
    )


def test_greedy_is_at_least_as_right_as_its_best_member():
    for seed in range(10):
        probabilities, labels = members(4, seed)
        weights = weighting.greedy(probabilities, labels)
        mixed = np.einsum("m,mnc->nc", weights, probabilities)
        each = [(said.argmax(axis=1) == labels).mean() for said in probabilities]
        assert (mixed.argmax(axis=1) == labels).mean() >= max(each)


def test_greedy_breaks_ties_by_cross_entropy_then_by_order():
    labels = np.array([0, 1])
    sure, unsure = np.array([[0.9, 0.1], [0.1, 0.9]]), np.array([[0.6, 0.4], [0.4, 0.6]])
    assert weighting.greedy(np.stack([unsure, sure]), labels).tolist() == [0, 1]
    assert weighting.greedy(np.stack([sure, sure]), labels).tolist() == [1, 0]
    # Right about more nodes beats a lower cross-entropy.
    bold = np.array([[0.999, 0.001], [0.51, 0.49]])
    assert weighting.greedy(np.stack([bold, unsure]), labels)[1] > 0
    assert weighting.greedy(np.stack([unsure]), labels).tolist() == [1]


# --- through `combine` ---


def stored(probabilities: np.ndarray, labels: np.ndarray | None = None) -> list[dict[str, np.ndarray]]:
    return [ensembles.stored(np.log(said), "a", labels) for said in probabilities]


def test_weights_that_are_given():
    """SimTeG's 2:2:1:1:1 on softmax outputs."""
    probabilities, _ = members(5)
    parts = stored(probabilities)
    made = ensembles.combine(parts, "weighted", (2, 2, 1, 1, 1))
    expected = np.average(probabilities, axis=0, weights=[2, 2, 1, 1, 1])
    np.testing.assert_allclose(made.predictions["probabilities"], expected, atol=2e-3)
    assert made.weights == pytest.approx([2 / 7, 2 / 7, 1 / 7, 1 / 7, 1 / 7])
    same = ensembles.combine(parts, "weighted", [0.2, 0.2, 0.1, 0.1, 0.1])
    assert np.array_equal(same.predictions["logits"], made.predictions["logits"])
    equal = ensembles.combine(parts, "weighted", [3] * 5).predictions["probabilities"]
    mean = ensembles.combine(parts, "mean-probability")
    np.testing.assert_allclose(equal, mean.predictions["probabilities"], atol=1e-3)
    assert mean.weights == ensembles.combine(parts, "mean-logit").weights == (0.2,) * 5


@pytest.mark.parametrize("how", ["fitted", "greedy"])
def test_weights_that_validation_nodes_choose(how):
    probabilities, labels = members(3)
    val = np.arange(20, 50)
    parts = stored(probabilities)
    made = ensembles.combine(parts, how, val=val, labels=labels[val])
    said = np.stack([part["probabilities"].astype(np.float64) for part in parts])
    weights = getattr(weighting, how)(said[:, val], labels[val])
    assert made.weights == pytest.approx(weights)
    assert sum(made.weights) == pytest.approx(1)
    np.testing.assert_allclose(made.predictions["probabilities"], np.average(said, axis=0, weights=weights), atol=1e-3)
    again = ensembles.combine(parts, how, val=val, labels=labels[val])
    assert again.weights == made.weights


@pytest.mark.parametrize("how", ["fitted", "greedy"])
def test_weights_of_predictions_of_some_nodes(monkeypatch, how):
    """Of a large graph labelled nodes alone are stored: the weights are those of all."""
    probabilities, labels = members(3)
    some = labels.copy()
    some[[0, 21, 59]] = -1
    val = np.array([22, 25, 31, 44, 47, 58])
    whole = ensembles.combine(stored(probabilities), how, val=val, labels=labels[val])
    monkeypatch.setattr(ensembles, "LARGE", 10)
    parts = stored(probabilities, some)
    assert len(parts[0]["nodes"]) == NODES - 3
    made = ensembles.combine(parts, how, val=val, labels=labels[val])
    assert made.weights == whole.weights
    assert np.array_equal(made.predictions["probabilities"], whole.predictions["probabilities"][parts[0]["nodes"]])
    for lost in (21, 59):
        with pytest.raises(JobError, match="do not hold every validation node"):
            ensembles.combine(parts, how, val=np.array([22, lost]), labels=np.array([0, 1]))


@pytest.mark.parametrize(
    ("weights", "problem"),
    [
        (None, "there are 0 weights for 3 members"),
        ([1, 2], "there are 2 weights for 3 members"),
        ([1, -1, 1], "the weights 1, -1, 1 are not of a mean: none may be below 0, and not all of them 0"),
        ([0, 0, 0], "not all of them 0"),
        ([1, float("nan"), 1], "the weights 1, nan, 1 are not"),
    ],
)
def test_weights_that_do_not_fit_are_refused(weights, problem):
    with pytest.raises(JobError, match=problem):
        ensembles.combine(stored(members(3)[0]), "weighted", weights)


def test_what_validation_lacks_is_refused():
    parts = stored(members(3)[0])
    for val, labels in ((None, None), (np.array([], dtype=np.int64),) * 2, (np.arange(3), np.arange(2))):
        with pytest.raises(JobError, match="'fitted' needs validation nodes, each with its label"):
            ensembles.combine(parts, "fitted", val=val, labels=labels)
    for label in (-1, CLASSES):
        with pytest.raises(JobError, match="'greedy': a validation node has no label among the 4 classes"):
            ensembles.combine(parts, "greedy", val=np.arange(2), labels=np.array([0, label]))
    with pytest.raises(JobError, match="cannot be combined by 'median'"):
        ensembles.combine(parts, "median")


def test_a_thousand_steps_bring_a_loss_within_its_bound(monkeypatch):
    """log(members) / steps, by which `fitted` says it ends: two members that are nearly alike converge slowest."""
    probabilities, labels = members(1)
    pair = np.stack([probabilities[0], 0.999 * probabilities[0] + 0.001 / CLASSES])
    best = min(cross_entropy(np.array([share, 1 - share]), pair, labels) for share in np.linspace(0, 1, 1001))
    losses = []
    for steps in (1, 10, 100, 1000):
        monkeypatch.setattr(weighting, "_STEPS", steps)
        losses.append(cross_entropy(weighting.fitted(pair, labels), pair, labels))
        assert losses[-1] - best <= np.log(2) / steps
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(losses))
