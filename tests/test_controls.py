"""Controls: methods without epochs, and Correct & Smooth, against dense formulas, scipy and scikit-learn."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.semi_supervised import LabelSpreading
from torch import Tensor

import tiny
from stage_bench import register_backbone
from stage_bench.backbones import checking
from stage_bench.backbones.base import Direct, Solution
from stage_bench.backbones.correct_and_smooth import CorrectAndSmooth
from stage_bench.backbones.label_propagation import LabelPropagation
from stage_bench.backbones.logistic_regression import LogisticRegression
from stage_bench.backbones.no_backbone import NoBackbone
from stage_bench.backbones.options import (
    CorrectAndSmoothOptions,
    LabelPropagationOptions,
    LogisticRegressionOptions,
    NoneOptions,
)
from stage_bench.backbones.probabilities import log_probabilities
from stage_bench.dgl_library import dgl
from stage_bench.errors import JobError
from stage_bench.runs.clock import Clock
from stage_bench.training import loop
from stage_bench.training.options import TrainingOptions

NODES, DIM, CLASSES = 40, 5, 3
LABELS = np.random.RandomState(3).permutation(NODES) % CLASSES
TRAIN, VAL = np.arange(16), np.arange(16, 26)
ISOLATED = NODES - 1


def adjacency_matrix() -> np.ndarray:
    """About five neighbours a node, mostly of its class; the last node has none."""
    state = np.random.RandomState(0)
    same = LABELS[:, None] == LABELS[None, :]
    a = np.triu(state.rand(NODES, NODES) < np.where(same, 0.3, 0.05), 1)
    a[:, ISOLATED] = False
    return (a | a.T).astype(np.float64)


A = adjacency_matrix()
DEGREES = np.maximum(A.sum(axis=1), 1e-30)
SYMMETRIC, ROW = A / np.sqrt(np.outer(DEGREES, DEGREES)), A / DEGREES[:, None]
Y = np.eye(CLASSES)[LABELS]
Y0 = np.where(np.arange(NODES)[:, None] < len(TRAIN), Y, 0.0)


def features() -> Tensor:
    state = np.random.RandomState(1)
    return torch.tensor(state.randn(CLASSES, DIM)[LABELS] + state.randn(NODES, DIM), dtype=torch.float32)


def task(inputs: Tensor | None = None, labels: np.ndarray = LABELS, train: np.ndarray = TRAIN) -> loop.Task:
    target, source = A.nonzero()
    graph = dgl.graph((torch.from_numpy(source), torch.from_numpy(target)), num_nodes=NODES)
    return loop.task(graph, features() if inputs is None else inputs, labels, train, VAL, CLASSES)


def with_other_validation_labels() -> np.ndarray:
    labels = LABELS.copy()
    labels[VAL] = (labels[VAL] + 1) % CLASSES
    return labels


def solved(method: type[Direct[Any]], options: Any, **changes: Any) -> np.ndarray:
    """Probabilities [NODES, CLASSES]."""
    fit = loop.solve(method, task(**changes), options, 0, Clock())
    return np.exp(fit.logits.astype(np.float64))


def shares(scores: np.ndarray) -> np.ndarray:
    return scores / scores.sum(axis=1, keepdims=True)


# --- label propagation ---


@pytest.mark.parametrize("normalization", ["symmetric", "row"])
@pytest.mark.parametrize("iterations", [1, 2, 7])
def test_label_propagation_step_by_step(normalization, iterations):
    s = SYMMETRIC if normalization == "symmetric" else ROW
    y = Y0
    for _ in range(iterations):
        y = 0.8 * s @ y + 0.2 * Y0
    said = solved(
        LabelPropagation, LabelPropagationOptions(alpha=0.8, iterations=iterations, normalization=normalization)
    )
    reached = y.sum(axis=1) > 0
    assert not reached[ISOLATED]
    np.testing.assert_allclose(said[reached], shares(y[reached]), atol=1e-6)
    np.testing.assert_allclose(said[~reached], np.tile(Y[TRAIN].mean(axis=0), ((~reached).sum(), 1)), atol=1e-6)


@pytest.mark.parametrize("alpha", [0.3, 0.9, 0.99])
def test_label_propagation_ends_at_the_closed_form(alpha):
    closed = (1 - alpha) * np.linalg.inv(np.eye(NODES) - alpha * SYMMETRIC) @ Y0
    said = solved(LabelPropagation, LabelPropagationOptions(alpha=alpha, iterations=2000))
    np.testing.assert_allclose(said[:ISOLATED], shares(closed[:ISOLATED]), atol=2e-5)


def test_label_propagation_is_scikit_learns_label_spreading():
    """Of the nodes that have neighbours: theirs has no answer for the others."""
    joined = np.arange(NODES) != ISOLATED
    known = np.where(np.arange(NODES) < len(TRAIN), LABELS, -1)[joined]
    theirs = LabelSpreading(kernel=lambda x, y: A[np.ix_(joined, joined)], alpha=0.7, max_iter=3000, tol=1e-9)
    theirs.fit(np.arange(joined.sum())[:, None], known)
    said = solved(LabelPropagation, LabelPropagationOptions(alpha=0.7, iterations=500))
    np.testing.assert_allclose(said[joined], theirs.label_distributions_, atol=1e-4)


def test_label_propagation_looks_at_no_feature():
    said = solved(LabelPropagation, LabelPropagationOptions())
    assert np.array_equal(said, solved(LabelPropagation, LabelPropagationOptions(), inputs=torch.zeros(NODES, 0)))


# --- logistic regression ---


def by_scipy(x: np.ndarray, labels: np.ndarray, c: float, weights: np.ndarray | None = None) -> np.ndarray:
    """Probabilities of all rows from the least of C sum_i w_i CE_i + |W|^2 / 2, written down and minimised."""
    classes = labels.max() + 1
    each = np.ones(len(labels)) if weights is None else weights

    def scores(flat: np.ndarray) -> np.ndarray:
        return x @ flat[: DIM * classes].reshape(DIM, classes) + flat[DIM * classes :]

    def loss(flat: np.ndarray) -> float:
        z = scores(flat)[: len(labels)]
        cross_entropies = np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(labels)), labels]
        return c * float(each @ cross_entropies) + float((flat[: DIM * classes] ** 2).sum()) / 2

    found = minimize(loss, np.zeros((DIM + 1) * classes), method="BFGS", options={"gtol": 1e-6, "maxiter": 5000})
    return shares(np.exp(scores(found.x)))


@pytest.mark.parametrize("c", [0.05, 1.0, 20.0])
def test_logistic_regression_by_hand(c):
    expected = by_scipy(features().double().numpy(), LABELS[TRAIN], c)
    np.testing.assert_allclose(solved(LogisticRegression, LogisticRegressionOptions(C=c)), expected, atol=3e-3, rtol=0)


def test_balanced_classes_and_standardised_columns_by_hand():
    x = features().double().numpy()
    counts = np.bincount(LABELS[TRAIN])
    weights = (len(TRAIN) / (CLASSES * counts))[LABELS[TRAIN]]
    assert len(set(counts)) > 1
    said = solved(LogisticRegression, LogisticRegressionOptions(class_weight="balanced"))
    np.testing.assert_allclose(said, by_scipy(x, LABELS[TRAIN], 1.0, weights), atol=3e-3)
    options = LogisticRegressionOptions(standardize=True)
    scaled = features() * torch.tensor([1.0, 100.0, 1.0, 0.01, 1.0]) + 5
    _, inputs = LogisticRegression.prepare(task().graph, scaled, options)
    expected = by_scipy((x - x.mean(axis=0)) / x.std(axis=0), LABELS[TRAIN], 1.0)
    np.testing.assert_allclose(solved(LogisticRegression, options, inputs=inputs), expected, atol=3e-3)
    _, plain = LogisticRegression.prepare(task().graph, scaled, LogisticRegressionOptions())
    assert plain is scaled
    assert LogisticRegression.prepare_options == ("standardize",)


@pytest.mark.parametrize("absent", [0, 1, 2])
def test_a_class_without_training_nodes_is_held_impossible(absent):
    """Two classes are left, for which one vector of weights is fitted: the other class's is its negative."""
    train = TRAIN[LABELS[TRAIN] != absent]
    said = solved(LogisticRegression, LogisticRegressionOptions(), train=train)
    assert said[:, absent].max() < 2e-12
    left = [label for label in range(CLASSES) if label != absent]
    order = np.concatenate([train, np.setdiff1d(np.arange(NODES), train)])
    ranks = np.searchsorted(left, LABELS[train])
    # With |w|^2 / 2 of the difference w, weights of +w/2 and -w/2 cost half as much: C is halved for them.
    expected = by_scipy(features().double().numpy()[order], ranks, 0.5)
    np.testing.assert_allclose(said[order][:, left], expected, atol=3e-3)


def test_its_parameters_are_counted():
    def count(train: np.ndarray) -> int:
        return loop.solve(LogisticRegression, task(train=train), LogisticRegressionOptions(), 0, Clock()).parameters

    assert count(TRAIN) == (DIM + 1) * CLASSES
    assert count(TRAIN[LABELS[TRAIN] != 0]) == DIM + 1
    assert loop.solve(LabelPropagation, task(), LabelPropagationOptions(), 0, Clock()).parameters == 0


def test_logistic_regression_that_does_not_converge_says_so():
    with pytest.raises(JobError, match=r"did not converge in 2 iterations; raise max_iter, lower C \(here: 50\)"):
        solved(LogisticRegression, LogisticRegressionOptions(C=50.0, max_iter=2))
    with pytest.raises(JobError, match="at least two classes"):
        solved(LogisticRegression, LogisticRegressionOptions(), train=TRAIN[LABELS[TRAIN] == 1])


def test_rows_are_predicted_in_parts(monkeypatch):
    whole = solved(LogisticRegression, LogisticRegressionOptions())
    monkeypatch.setattr("stage_bench.backbones.logistic_regression._ROWS", 7)
    np.testing.assert_allclose(solved(LogisticRegression, LogisticRegressionOptions()), whole, rtol=1e-5)


# --- no backbone ---


def test_no_backbone_says_what_its_source_says():
    scores = torch.randn(NODES, CLASSES, generator=torch.Generator().manual_seed(0))
    fit = loop.solve(NoBackbone, task(scores), NoneOptions(), 0, Clock())
    assert np.array_equal(fit.logits, scores.numpy())
    with pytest.raises(JobError, match="takes a source's own class scores: 3 columns, one a class, not 5"):
        loop.solve(NoBackbone, task(), NoneOptions(), 0, Clock())


# --- correct and smooth ---


def by_the_paper(said: np.ndarray, options: CorrectAndSmoothOptions) -> np.ndarray:
    """Section 2 of arXiv 2010.13993 with dense matrices; the validation nodes are unlabelled nodes."""
    training = np.arange(NODES) < len(TRAIN)
    e = np.where(training[:, None], Y - said, 0.0)
    hat = e
    if options.autoscale:
        for _ in range(options.correction_iterations):
            hat = (1 - options.correction_alpha) * e + options.correction_alpha * SYMMETRIC @ hat
        sigma = np.abs(e[training]).sum(axis=1).mean()
        norms = np.abs(hat).sum(axis=1)
        factors = np.where(norms * 1000 >= sigma, sigma / np.maximum(norms, 1e-30), 1.0)
        corrected = said + factors[:, None] * hat
    else:
        for _ in range(options.correction_iterations):
            hat = np.where(training[:, None], e, ROW @ hat)
        corrected = said + options.scale * hat
    g = np.where(training[:, None], Y, corrected)
    smooth = g
    for _ in range(options.smoothing_iterations):
        smooth = (1 - options.smoothing_alpha) * g + options.smoothing_alpha * SYMMETRIC @ smooth
    return smooth


def refined(options: CorrectAndSmoothOptions, logits: Tensor, labels: np.ndarray = LABELS) -> np.ndarray:
    with torch.no_grad():
        out: Tensor = CorrectAndSmooth(DIM, CLASSES, options).refine(logits, task(labels=labels))
    return out.numpy()


OPTIONS = [
    {},
    {"correction_alpha": 0.3, "correction_iterations": 3, "smoothing_alpha": 0.5, "smoothing_iterations": 4},
    {"autoscale": False},
    {"autoscale": False, "scale": 3.0, "correction_iterations": 2, "smoothing_iterations": 1},
    {"correction_alpha": 0.98, "smoothing_alpha": 0.98, "correction_iterations": 300, "smoothing_iterations": 300},
]


@pytest.mark.parametrize("values", OPTIONS, ids=str)
def test_correct_and_smooth_is_the_papers(values):
    options = CorrectAndSmoothOptions(**values)
    logits = 2 * torch.randn(NODES, CLASSES, generator=torch.Generator().manual_seed(0))
    smooth = by_the_paper(logits.double().softmax(dim=1).numpy(), options)
    said = refined(options, logits)
    assert np.isfinite(said).all()
    expected = shares(np.maximum(smooth, 0))
    np.testing.assert_allclose(np.exp(said), np.maximum(expected, 1e-12), atol=1e-5)
    assert np.array_equal(said.argmax(axis=1), smooth.argmax(axis=1))
    # A node that no error reaches and no score leaves says what it said.
    np.testing.assert_allclose(np.exp(said[ISOLATED]), logits.softmax(dim=1)[ISOLATED].numpy(), atol=1e-6)


def test_smoothing_ends_at_the_closed_form():
    options = CorrectAndSmoothOptions(smoothing_iterations=3000, smoothing_alpha=0.9)
    logits = torch.randn(NODES, CLASSES, generator=torch.Generator().manual_seed(1))
    once = CorrectAndSmoothOptions(smoothing_iterations=1, smoothing_alpha=1e-9)
    start = by_the_paper(logits.double().softmax(dim=1).numpy(), once)
    smooth = 0.1 * np.linalg.inv(np.eye(NODES) - 0.9 * SYMMETRIC) @ start
    np.testing.assert_allclose(np.exp(refined(options, logits)), shares(np.maximum(smooth, 0)), atol=1e-5)


def test_without_errors_there_is_nothing_to_correct():
    certain = torch.from_numpy(200.0 * Y).float()
    for autoscale in (True, False):
        options = CorrectAndSmoothOptions(autoscale=autoscale, smoothing_alpha=1e-9)
        np.testing.assert_allclose(np.exp(refined(options, certain)), Y, atol=1e-6)


def cs_fit(labels: np.ndarray = LABELS, epochs: int = 6, **training: Any) -> tuple[loop.Fit, CorrectAndSmooth]:
    built: list[CorrectAndSmooth] = []

    def build() -> CorrectAndSmooth:
        built.append(CorrectAndSmooth(DIM, CLASSES, CorrectAndSmoothOptions(hidden=8)))
        return built[-1]

    return loop.fit(build, task(labels=labels), TrainingOptions(epochs=epochs, **training), 0, Clock()), built[-1]


def test_what_training_reports_is_of_the_refined_scores():
    fit, model = cs_fit()
    with torch.no_grad():
        own = model.eval()(task().graph, features())
        again = model.refine(own, task())
    np.testing.assert_allclose(fit.logits, again.numpy(), atol=1e-5)
    assert fit.val_accuracy == pytest.approx((fit.logits[VAL].argmax(axis=1) == LABELS[VAL]).mean())
    assert max(fit.curve) == pytest.approx(float((own[VAL].argmax(dim=1).numpy() == LABELS[VAL]).mean()), abs=1e-6)
    assert fit.val_accuracy != pytest.approx(max(fit.curve)), "the curve is the perceptron's own"
    assert fit.val_loss == pytest.approx(-fit.logits[VAL, LABELS[VAL]].mean(), rel=1e-4)


def test_refining_is_told_no_validation_label():
    """Of one epoch, which no validation label selects, the same logits come out whatever these labels are."""
    one, _ = cs_fit(epochs=1)
    other, _ = cs_fit(with_other_validation_labels(), epochs=1)
    assert np.array_equal(one.logits, other.logits)
    assert one.val_loss != other.val_loss
    logits = torch.randn(NODES, CLASSES, generator=torch.Generator().manual_seed(0))
    options = CorrectAndSmoothOptions()
    assert np.array_equal(refined(options, logits), refined(options, logits, with_other_validation_labels()))


def test_a_refinement_that_is_not_finite_is_an_error():
    class Broken(CorrectAndSmooth):
        def refine(self, logits: Tensor, task: loop.Task) -> Tensor:
            return logits / 0

    def build() -> Broken:
        return Broken(DIM, CLASSES, CorrectAndSmoothOptions(hidden=8))

    with pytest.raises(JobError, match=r"\(refine\) is not finite"):
        loop.fit(build, task(), TrainingOptions(epochs=2), 0, Clock())


# --- what all of them have in common ---


METHODS: list[tuple[type[Direct[Any]], Any]] = [
    (LogisticRegression, LogisticRegressionOptions()),
    (LabelPropagation, LabelPropagationOptions()),
]


@pytest.mark.parametrize(("method", "options"), METHODS)
def test_validation_labels_change_no_bit(method, options):
    """Neither through `solve`, which hides them, nor where they are handed over."""
    other = task(labels=with_other_validation_labels())
    one = loop.solve(method, task(), options, 0, Clock())
    two = loop.solve(method, other, options, 1, Clock())
    assert np.array_equal(one.logits, two.logits)
    assert one.val_accuracy != two.val_accuracy
    assert torch.equal(method.solve(task(), options, 0).logits, method.solve(other, options, 0).logits)


def test_a_method_that_looks_for_other_labels_finds_none():
    seen: list[np.ndarray] = []

    class Curious(Direct[NoneOptions]):
        @classmethod
        def solve(cls, task: loop.Task, options: NoneOptions, seed: int) -> Solution:
            seen.append(task.labels.numpy().copy())
            return Solution(torch.rand(NODES, CLASSES), 0)

    one = loop.solve(Curious, task(), NoneOptions(), 7, Clock())
    assert np.array_equal(np.flatnonzero(seen[0] >= 0), TRAIN)
    assert np.array_equal(seen[0][TRAIN], LABELS[TRAIN])
    assert np.array_equal(loop.solve(Curious, task(), NoneOptions(), 7, Clock()).logits, one.logits), "it is seeded"
    assert not np.array_equal(loop.solve(Curious, task(), NoneOptions(), 8, Clock()).logits, one.logits)


@pytest.mark.parametrize("wrong", [torch.full((NODES, CLASSES), torch.nan), torch.zeros(NODES, 2), torch.zeros(3, 3)])
def test_scores_that_are_none_are_an_error(wrong):
    class Wrong(Direct[NoneOptions]):
        @classmethod
        def solve(cls, task: loop.Task, options: NoneOptions, seed: int) -> Solution:
            return Solution(wrong, 0)

    with pytest.raises(JobError, match=r"Wrong: its scores of shape \[\d+, \d\] are not finite numbers of shape"):
        loop.solve(Wrong, task(), NoneOptions(), 0, Clock())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_scores_from_another_device_than_the_tasks():
    class OnCPU(Direct[NoneOptions]):
        @classmethod
        def solve(cls, task: loop.Task, options: NoneOptions, seed: int) -> Solution:
            return Solution(torch.rand(NODES, CLASSES), 0)

    here = task()
    on_gpu = {name: getattr(here, name).cuda() for name in ("inputs", "labels", "train", "val")}
    assert 0 <= loop.solve(OnCPU, dataclasses.replace(here, **on_gpu), NoneOptions(), 0, Clock()).val_accuracy <= 1


def test_what_a_solution_says_of_itself():
    clock = Clock()
    fit = loop.solve(LabelPropagation, task(), LabelPropagationOptions(), 0, clock)
    assert set(clock.seconds) == {"train", "infer"}
    assert (fit.best_epoch, fit.epochs, fit.curve) == (0, 0, [])
    assert fit.logits.dtype == np.float32
    said = np.exp(fit.logits.astype(np.float64))
    assert fit.val_accuracy == pytest.approx((said[VAL].argmax(axis=1) == LABELS[VAL]).mean())
    assert fit.val_loss == pytest.approx(-np.log(said[VAL, LABELS[VAL]]).mean(), rel=1e-5)


CHANGES: list[tuple[type[Direct[Any]], Any, dict[str, Any]]] = [
    (
        LogisticRegression,
        LogisticRegressionOptions(),
        {"C": 5.0, "standardize": True, "class_weight": "balanced", "max_iter": 4},
    ),
    (LabelPropagation, LabelPropagationOptions(), {"alpha": 0.5, "iterations": 2, "normalization": "row"}),
]


@pytest.mark.parametrize(("method", "options", "changes"), CHANGES)
def test_every_option_reaches_what_it_configures(method, options, changes):
    assert set(changes) == set(type(options).model_fields)

    def said(chosen: Any) -> np.ndarray:
        _, inputs = method.prepare(task().graph, features(), chosen)
        return solved(method, chosen, inputs=inputs)

    for field, value in changes.items():
        changed = options.model_copy(update={field: value})
        if field == "max_iter":
            with pytest.raises(JobError, match="did not converge in 4"):
                said(changed)
        else:
            assert not np.array_equal(said(options), said(changed)), field


def test_scores_become_logits():
    scores = torch.tensor([[2.0, 6.0, 0.0], [-1.0, 3.0, 1.0]])
    expected = np.log([[0.25, 0.75, 1e-12], [1e-12, 0.75, 0.25]])
    np.testing.assert_allclose(log_probabilities(scores).numpy(), expected, rtol=1e-5)


def test_a_task_is_not_changed():
    before = task()
    kept = dataclasses.replace(before, labels=before.labels.clone(), inputs=before.inputs.clone())
    for method, options in METHODS:
        loop.solve(method, before, options, 0, Clock())
    assert torch.equal(before.labels, kept.labels)
    assert torch.equal(before.inputs, kept.inputs)
    assert not before.graph.ndata


@pytest.mark.parametrize("name", ["logistic-regression", "label-propagation", "none", "correct-and-smooth"])
def test_each_passes_its_own_check(name):
    lines = list(checking.check(name))
    assert all(line.passed for line in lines), [line.what for line in lines if not line.passed]
    assert any(line.what.startswith("it learns") for line in lines)


def test_the_check_finds_a_method_that_learns_from_validation_labels(own_registry: None):
    def register(name: str, family: str, labels: str) -> None:
        @register_backbone(name=name, summary="the labels it knows", family=family, options=NoneOptions)
        class Cheat(Direct[NoneOptions]):
            @classmethod
            def solve(cls, task: loop.Task, options: NoneOptions, seed: int) -> Solution:
                known = torch.zeros(len(task.labels), 3)
                nodes = torch.cat([task.train, task.val]) if labels == "all" else task.train
                known[nodes, task.labels[nodes].clamp(min=0)] = 9.0
                return Solution(known, 0)

    register("cheat", "direct", "all")
    register("honest", "message passing", "training")
    for name, found in (
        ("cheat", "other validation labels give the same logits"),
        ("honest", "it is of the family message passing, and is a subclass of Direct"),
    ):
        failed = [line.what for line in checking.check(name) if not line.passed]
        assert found in failed


def test_a_suite_of_controls(tmp_path):
    """From the YAML to the records; ensembles choose their weights on validation nodes."""
    tiny.write_folder(tmp_path / "data")
    names = ["logistic-regression", "label-propagation", "correct-and-smooth"]
    suite = {
        "features": [{"name": "shallow", "dimension": 8}],
        "backbones": names,
        "training": {"epochs": 5},
        "ensembles": [{"name": how, "members": names[::2], "combine": how} for how in ("fitted", "greedy")],
        "seeds": 1,
    }
    assert tiny.carry_out(tmp_path, suite) == []
    records = {record.backbone: record for record in tiny.records(tmp_path)}
    assert set(records) == {*names, "fitted", "greedy"}
    for name in names[:2]:
        assert (records[name].metrics["epochs"], records[name].metrics["best_epoch"]) == (0, 0)
        assert records[name].curve == []
    assert records["label-propagation"].metrics["parameters"] == 0
    best = max(records[name].metrics["val_accuracy"] for name in names[::2])
    assert records["greedy"].metrics["val_accuracy"] >= best
