"""The training loop, scoring and ensembles: options reach what they configure, and test labels reach nothing."""

import math
import random
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import accuracy_score
from torch import Tensor, nn

from stage_bench.backbones.gat import GAT
from stage_bench.backbones.gcn import GCN
from stage_bench.backbones.mlp import MLP
from stage_bench.backbones.options import GATOptions, GCNOptions, MLPOptions
from stage_bench.datasets.splits import Split, random_split
from stage_bench.errors import JobError, StageBenchError
from stage_bench.runs import scoring
from stage_bench.runs.clock import Clock
from stage_bench.training import ensembles, loop
from stage_bench.training.options import TrainingOptions
from stage_bench.training.passes import Step, shuffled
from tiny import text_graph

NODES, DIM, CLASSES = 60, 8, 3
GRAPH = text_graph(NODES)
SPLIT = random_split(GRAPH.labels, "random-60-20-20", 0)


def features() -> Tensor:
    """Noisy class means: learnt within some epochs, not in the first."""
    state = np.random.RandomState(0)
    means = state.randn(CLASSES, DIM)
    return torch.tensor(means[GRAPH.labels] + 1.2 * state.randn(NODES, DIM), dtype=torch.float32)


def task(labels: np.ndarray = GRAPH.labels, inputs: Tensor | None = None) -> loop.Task:
    inputs = features() if inputs is None else inputs
    return loop.task(GRAPH.graph, inputs, labels, SPLIT.train, SPLIT.val, CLASSES)


def mlp() -> nn.Module:
    return MLP(DIM, CLASSES, MLPOptions(num_layers=2, hidden=16))


def fit(build=mlp, seed: int = 0, on_epoch=None, data: loop.Task | None = None, **options: Any) -> loop.Fit:
    return loop.fit(build, data or task(), TrainingOptions(**{"epochs": 8, **options}), seed, Clock(), on_epoch)


class Linear(nn.Module):
    """No randomness but its start, which is zero: what it learns can be computed by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(DIM, CLASSES)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, graph: Any, x: Tensor) -> Tensor:
        return self.linear(x)


class Scripted(nn.Module):
    """Says in epoch e (from 1) what the script holds for it; a buffer counts the optimiser's steps."""

    def __init__(self, script: list[Tensor]) -> None:
        super().__init__()
        self.script = script
        self.weight = nn.Parameter(torch.zeros(()))
        self.register_buffer("epoch", torch.zeros((), dtype=torch.int64))

    def forward(self, graph: Any, x: Tensor) -> Tensor:
        if self.training:
            self.epoch += 1
        return self.script[int(self.epoch) - 1] + 0 * self.weight


def scores(right: int) -> Tensor:
    """Logits by which exactly `right` validation nodes are right, and every other node is wrong."""
    said = (GRAPH.labels + 1) % CLASSES
    said[SPLIT.val[:right]] = GRAPH.labels[SPLIT.val[:right]]
    return F.one_hot(torch.from_numpy(said), CLASSES).float() * (1 + right)


# --- options reach what they configure ---


def by_hand(make_optimizer, lrs: list[float], smoothing: float = 0.0) -> list[np.ndarray]:
    """The logits after each epoch of training Linear with plain torch."""
    model, x, said = Linear(), features(), torch.from_numpy(GRAPH.labels)[SPLIT.train]
    optimizer = make_optimizer(model.parameters())
    after = []
    for lr in lrs:
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.zero_grad()
        F.cross_entropy(model(None, x)[SPLIT.train], said, label_smoothing=smoothing).backward()
        optimizer.step()
        after.append(model(None, x).detach().numpy())
    return after


REFERENCES = {
    "defaults": ({}, lambda p: torch.optim.Adam(p), [0.01] * 5, 0.0),
    "lr": ({"lr": 0.3}, lambda p: torch.optim.Adam(p), [0.3] * 5, 0.0),
    "weight_decay": ({"weight_decay": 0.2}, lambda p: torch.optim.Adam(p, weight_decay=0.2), [0.01] * 5, 0.0),
    "adamw": (
        {"optimizer": "adamw", "weight_decay": 0.2},
        lambda p: torch.optim.AdamW(p, weight_decay=0.2),
        [0.01] * 5,
        0.0,
    ),
    "rmsprop": (
        {"optimizer": "rmsprop", "weight_decay": 0.2},
        lambda p: torch.optim.RMSprop(p, weight_decay=0.2),
        [0.01] * 5,
        0.0,
    ),
    "warmup_epochs": ({"warmup_epochs": 4}, lambda p: torch.optim.Adam(p), [0.0025, 0.005, 0.0075, 0.01, 0.01], 0.0),
    "label_smoothing": ({"label_smoothing": 0.3}, lambda p: torch.optim.Adam(p), [0.01] * 5, 0.3),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_training_by_hand(name):
    options, make_optimizer, lrs, smoothing = REFERENCES[name]
    steps = by_hand(make_optimizer, lrs, smoothing)
    fitted = fit(Linear, epochs=5, **options)
    np.testing.assert_allclose(fitted.logits, steps[fitted.best_epoch - 1], rtol=1e-5, atol=1e-6)
    if name != "defaults":
        default = by_hand(REFERENCES["defaults"][1], [0.01] * 5)
        assert np.abs(steps[fitted.best_epoch - 1] - default[fitted.best_epoch - 1]).max() > 1e-4, "the same anyway"


def test_without_weight_decay_adamw_decays_nothing():
    """AdamW's own default is 0.01: what the options do not say must not creep in."""
    fitted = fit(Linear, epochs=5, optimizer="adamw")
    expected = by_hand(lambda p: torch.optim.AdamW(p, weight_decay=0.0), [0.01] * 5)
    np.testing.assert_allclose(fitted.logits, expected[fitted.best_epoch - 1], rtol=1e-5, atol=1e-7)


def gat_fit(**options: Any) -> np.ndarray:
    """Logits of a GAT with dropout, whose prepared features are the features: every option can reach it."""
    chosen = GATOptions(num_layers=2, hidden=8, heads=2, edge_dropout=0.2)
    graph, inputs = GAT.prepare(GRAPH.graph, features(), chosen)
    data = loop.task(graph, inputs, GRAPH.labels, SPLIT.train, SPLIT.val, CLASSES)
    in_dim = DIM + (CLASSES if options.get("label_inputs") else 0)
    return fit(lambda: GAT(in_dim, CLASSES, chosen), data=data, **options).logits


# an option, another value of it, and what else must be so for it to count
CHANGES: list[tuple[str, Any, dict[str, Any]]] = [
    ("kernels", "torch", {}),
    ("products", "bfloat16", {}),
    ("batching", "neighbor", {}),
    ("batch_size", 8, {"batching": "neighbor"}),
    ("fanout", 1, {"batching": "neighbor"}),
    ("loss", "log-epsilon", {}),
    ("label_inputs", True, {}),
    ("label_input_share", 0.9, {"label_inputs": True}),
    ("label_iterations", 2, {"label_inputs": True}),
    ("distillation", 0.9, {}),
    ("distillation_temperature", 0.3, {"distillation": 0.9}),
]


@pytest.mark.parametrize(("option", "value", "given"), CHANGES, ids=[change[0] for change in CHANGES])
def test_an_option_reaches_the_training(option, value, given):
    before = gat_fit(**given)
    assert np.array_equal(before, gat_fit(**given))
    assert not np.array_equal(before, gat_fit(**given, **{option: value}))


def test_every_training_option_is_covered():
    by_hand = {"lr", "weight_decay", "optimizer", "warmup_epochs", "label_smoothing", "epochs", "patience"}
    assert by_hand | {change[0] for change in CHANGES} == set(TrainingOptions.model_fields)


def test_the_teacher_is_the_model_without_distillation(monkeypatch):
    """Of the same seed, and it is what `distillation` is handed."""
    seen = []
    true = loop.distillation
    monkeypatch.setattr(loop, "distillation", lambda logits, taught, t: seen.append(taught) or true(logits, taught, t))
    fit(seed=3, epochs=4, distillation=0.5)
    assert np.array_equal(seen[0].numpy(), fit(seed=3, epochs=4).logits[SPLIT.train])
    assert len(seen) == 4


def test_distillation_by_hand():
    """The student's first step from the same start, with the teacher's output as second target."""
    alpha, temperature = 0.7, 0.5
    taught = fit(Linear, epochs=3).logits
    model, x = Linear(), features()
    optimizer = torch.optim.Adam(model.parameters())
    for group in optimizer.param_groups:
        group["lr"] = 0.01
    logits = model(None, x)
    teacher = torch.from_numpy(taught)
    divergence = nn.KLDivLoss()(F.log_softmax(logits / temperature, dim=1), F.softmax(teacher / temperature, dim=1)) * (
        temperature**2
    )
    said = torch.from_numpy(GRAPH.labels)[SPLIT.train]
    ((1 - alpha) * F.cross_entropy(logits[SPLIT.train], said) + alpha * divergence).backward()
    optimizer.step()
    student = Linear()
    made = loop._loss(
        Step(student(None, x), asked=task().train),
        task(),
        TrainingOptions(distillation=alpha, distillation_temperature=temperature),
        teacher,
    )
    made.backward()
    torch.testing.assert_close(student.linear.weight.grad, model.linear.weight.grad)


def test_a_model_of_rows_is_shown_the_rows_that_count():
    """In training the training nodes, in an evaluation the validation nodes, at the end all of them."""
    seen: list[int] = []

    class Watching(MLP):
        def forward(self, graph: Any, x: Tensor) -> Tensor:
            seen.append(len(x))
            return super().forward(graph, x)

    fitted = fit(lambda: Watching(DIM, CLASSES, MLPOptions()), epochs=2)
    assert seen == [len(SPLIT.train), len(SPLIT.val)] * 2 + [NODES]
    assert fitted.logits.shape == (NODES, CLASSES)


def test_batches_hold_every_training_node_once_and_none_alone():
    for size in (2, 7, 35, 36, 100):
        torch.manual_seed(0)
        batches = shuffled(task().train, size)
        assert max(map(len, batches)) <= size
        assert min(map(len, batches)) > 1
        assert np.array_equal(np.sort(torch.cat(batches).numpy()), np.sort(SPLIT.train))


def test_batches_of_rows_may_come_from_a_file(tmp_path):
    np.save(tmp_path / "x.npy", features().numpy().astype(np.float16))
    mapped = torch.from_numpy(np.load(tmp_path / "x.npy", mmap_mode="c"))
    options = {"batching": "neighbor", "batch_size": 10}
    from_file = fit(mlp, data=task(inputs=mapped), **options)
    in_memory = fit(mlp, data=task(inputs=features().half().float()), **options)
    assert np.array_equal(from_file.logits, in_memory.logits)


def test_epochs_and_patience_stop():
    rising = [scores(n) for n in (1, 2, 3, 3, 3, 3, 3, 3, 3)]
    assert fit(lambda: Scripted(rising), epochs=2).epochs == 2
    stopped = fit(lambda: Scripted(rising), epochs=9, patience=4)
    assert (stopped.epochs, stopped.best_epoch) == (7, 3), "4 epochs without better than epoch 3"
    assert fit(lambda: Scripted(rising), epochs=9, patience=50).epochs == 9
    late = [scores(n) for n in (1, 0, 0, 2, 0, 0, 0, 3)]
    assert fit(lambda: Scripted(late), epochs=8, patience=4).best_epoch == 8, "better again in time"
    assert fit(lambda: Scripted(late), epochs=8, patience=3).epochs == 7


def test_the_best_epochs_state_is_kept():
    script = [scores(n) for n in (2, 5, 4, 5, 1)]
    fitted = fit(lambda: Scripted(script), epochs=5)
    assert fitted.best_epoch == 2, "the first of equals"
    assert np.array_equal(fitted.logits, script[1].numpy()), "not those of the last epoch"
    assert fitted.val_accuracy == pytest.approx(5 / len(SPLIT.val))
    assert fitted.curve == [round(n / len(SPLIT.val), 6) for n in (2, 5, 4, 5, 1)]
    assert fitted.parameters == 1


def test_what_it_says_of_itself_agrees():
    fitted = fit(epochs=30)
    right = fitted.logits.argmax(axis=1) == GRAPH.labels
    assert fitted.val_accuracy == pytest.approx(right[SPLIT.val].mean())
    assert fitted.val_accuracy == pytest.approx(max(fitted.curve), abs=1e-6)
    assert fitted.curve[fitted.best_epoch - 1] == max(fitted.curve)
    assert fitted.curve.index(max(fitted.curve)) == fitted.best_epoch - 1
    assert fitted.logits.shape == (NODES, CLASSES)
    assert fitted.logits.dtype == np.float32
    assert fitted.parameters == sum(weight.numel() for weight in mlp().parameters())
    assert fitted.val_accuracy > 0.6
    right_class = softmax(fitted.logits.astype(np.float64))[SPLIT.val, GRAPH.labels[SPLIT.val]]
    assert fitted.val_loss == pytest.approx(-np.log(right_class).mean(), rel=1e-5)


def test_the_kept_state_is_a_copy():
    """Batch norm's running statistics are changed in place by every later epoch."""
    long, short = fit(epochs=30), fit(epochs=30)
    again = fit(epochs=long.best_epoch)
    assert long.best_epoch < 30, "then there is nothing to see here"
    assert np.array_equal(long.logits, short.logits)
    assert np.array_equal(again.logits, long.logits)


def test_on_epoch_is_told_and_may_stop():
    told = []

    def stop(epoch: int, most: int, best: float) -> None:
        told.append((epoch, most, best))
        if epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(on_epoch=stop)
    assert [line[:2] for line in told] == [(1, 8), (2, 8), (3, 8)]
    assert [best for *_, best in told] == sorted(best for *_, best in told)


def test_the_clock_has_training_and_inference():
    clock = Clock()
    loop.fit(mlp, task(), TrainingOptions(epochs=2), 0, clock)
    assert set(clock.seconds) == {"train", "infer"}


# --- seeds ---


def test_the_same_seed_gives_the_same_bytes():
    for build in (mlp, lambda: GCN(DIM, CLASSES, GCNOptions(num_layers=2, hidden=16))):
        first = fit(build, seed=5)
        torch.rand(7)  # whatever happened before must not show
        assert fit(build, seed=5).logits.tobytes() == first.logits.tobytes()
        assert fit(build, seed=6).logits.tobytes() != first.logits.tobytes()


def test_the_seed_reaches_every_generator_that_a_model_may_use():
    class Noisy(Linear):
        def forward(self, graph: Any, x: Tensor) -> Tensor:
            noise = np.random.rand() + random.random() if self.training else 0.0  # what a plug-in may do
            return super().forward(graph, x) + noise * x[:, :CLASSES]

    first = fit(Noisy, seed=1)
    np.random.rand(3)
    random.random()
    assert fit(Noisy, seed=1).logits.tobytes() == first.logits.tobytes()
    assert fit(Noisy, seed=2).logits.tobytes() != first.logits.tobytes()


# --- test labels ---


def test_a_task_hides_every_label_but_training_and_validation():
    made = task()
    shown = np.flatnonzero(made.labels.numpy() >= 0)
    assert np.array_equal(shown, np.sort(np.concatenate([SPLIT.train, SPLIT.val])))
    assert np.array_equal(made.labels.numpy()[shown], GRAPH.labels[shown])
    assert (GRAPH.labels >= 0).all(), "the dataset's own labels are not touched"


def permuted(part: np.ndarray) -> np.ndarray:
    labels = GRAPH.labels.copy()
    labels[part] = (labels[part] + 1) % CLASSES
    return labels


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
def test_permuting_test_labels_changes_no_bit(optimizer):
    base = fit(optimizer=optimizer, patience=3)
    other = fit(optimizer=optimizer, patience=3, data=task(permuted(SPLIT.test)))
    assert other.logits.tobytes() == base.logits.tobytes()
    assert (other.curve, other.best_epoch) == (base.curve, base.best_epoch)
    # The counterpart: were nothing looked at, the above would show nothing.
    assert fit(optimizer=optimizer, data=task(permuted(SPLIT.train))).logits.tobytes() != base.logits.tobytes()
    assert fit(optimizer=optimizer, data=task(permuted(SPLIT.val))).curve != base.curve


def test_a_backbone_that_looks_for_labels_finds_none():
    """Everything that a forward pass is handed: the graph with its frames, and the features."""
    found: list[str] = []

    class Cheat(Linear):
        def forward(self, graph: Any, x: Tensor) -> Tensor:
            for place, frame in (("node", graph.ndata), ("edge", graph.edata)):
                found.extend(f"{place} data {key}" for key in frame)
            columns = [x, *(value for value in vars(graph).values() if isinstance(value, Tensor))]
            said = torch.from_numpy(GRAPH.labels)
            for tensor in columns:
                for column in tensor.reshape(len(tensor), -1).T:
                    if len(column) == NODES and torch.equal(column.round().long(), said):
                        found.append("a column of labels")
            return super().forward(graph, x)

    fit(Cheat)
    assert not found


# --- what goes wrong ---


def test_a_loss_that_is_no_number_names_the_epoch():
    bad = torch.full((NODES, CLASSES), math.nan)
    with pytest.raises(JobError, match=r"the loss is nan at epoch 3; try a lower lr \(here: 0\.01\)"):
        fit(lambda: Scripted([scores(1), scores(2), bad]), epochs=5)
    endless = torch.tensor([[3e38, -3e38, -3e38]]).expand(NODES, CLASSES)
    with pytest.raises(JobError, match="the loss is inf at epoch 1"):
        fit(lambda: Scripted([endless]), epochs=1)


@pytest.mark.parametrize("epochs", [1, 5])
def test_an_absurd_lr_is_an_error_at_once(epochs):
    with pytest.raises(JobError, match="lower lr"):
        fit(lambda: MLP(DIM, CLASSES, MLPOptions(num_layers=3, hidden=16)), lr=1e30, epochs=epochs)


# --- scoring ---


def test_accuracies_are_scikit_learns():
    probabilities = np.random.RandomState(3).dirichlet(np.ones(CLASSES), NODES).astype(np.float16)
    made = scoring.accuracies(probabilities, GRAPH.labels, SPLIT)
    said = probabilities.argmax(axis=1)
    assert set(made) == {"train_accuracy", "val_accuracy", "test_accuracy"}
    for part in ("train", "val", "test"):
        nodes = getattr(SPLIT, part)
        assert made[f"{part}_accuracy"] == pytest.approx(accuracy_score(GRAPH.labels[nodes], said[nodes]))
    assert len(set(made.values())) == 3


@pytest.mark.parametrize("unsorted_part", [False, True])
def test_accuracies_of_some_nodes_are_those_of_all(unsorted_part):
    probabilities = np.random.RandomState(3).dirichlet(np.ones(CLASSES), NODES)
    split = Split("file", None, SPLIT.train[:9], SPLIT.val[:5], SPLIT.test[:7][:: -1 if unsorted_part else 1])
    nodes = np.sort(np.concatenate([split.train, split.val, split.test, SPLIT.test[7:9]]))
    assert len(nodes) < NODES
    made = scoring.accuracies(probabilities[nodes], GRAPH.labels, split, nodes)
    assert made == scoring.accuracies(probabilities, GRAPH.labels, split)
    assert made != scoring.accuracies(probabilities[::-1][: len(nodes)], GRAPH.labels, split, nodes)


@pytest.mark.parametrize("lost", [0, 4, -1])
def test_a_node_without_predictions_is_told(lost):
    nodes = np.sort(np.concatenate([SPLIT.train, SPLIT.val, SPLIT.test]))
    left = np.delete(nodes, lost)
    with pytest.raises(StageBenchError, match=f"no node {nodes[lost]};"):
        scoring.accuracies(np.zeros((len(left), CLASSES)), GRAPH.labels, SPLIT, left)


# --- ensembles ---


def members(count: int = 3, split: str = "a") -> list[dict[str, np.ndarray]]:
    state = np.random.RandomState(1)
    return [ensembles.stored(4 * state.randn(NODES, CLASSES), split) for _ in range(count)]


def softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def test_stored_logits_give_the_stored_probabilities():
    logits = np.random.RandomState(0).randn(NODES, CLASSES) * 5
    stored = ensembles.stored(logits, "a")
    assert stored["logits"].dtype == stored["probabilities"].dtype == np.float16
    np.testing.assert_allclose(stored["probabilities"], softmax(logits), atol=1e-3)
    np.testing.assert_allclose(softmax(stored["logits"].astype(np.float64)), stored["probabilities"], atol=4e-3)
    assert str(stored["split_fingerprint"]) == "a"


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3, 1e6, 1e30])
def test_float16_holds_logits_of_any_scale(scale):
    logits = np.random.RandomState(0).randn(NODES, CLASSES).astype(np.float32) * np.float32(scale)
    stored = ensembles.stored(logits, "a")
    assert np.isfinite(stored["logits"]).all()
    assert np.isfinite(stored["probabilities"]).all()
    assert (stored["logits"].max(axis=1) == 0).all()
    if scale >= 1:
        assert np.array_equal(stored["logits"].argmax(axis=1), logits.argmax(axis=1))


def some_labelled() -> np.ndarray:
    labels = GRAPH.labels.copy()
    labels[[0, 7, NODES - 1]] = -1
    return labels


def test_of_a_large_graph_labelled_nodes_are_stored(monkeypatch):
    logits, labels = np.random.RandomState(0).randn(NODES, CLASSES), some_labelled()
    whole = ensembles.stored(logits, "a")
    assert set(whole) == {"probabilities", "logits", "split_fingerprint"}
    assert ensembles.LARGE == 1_000_000

    def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
        return list(one) == list(other) and all(np.array_equal(one[key], other[key]) for key in one)

    assert same(ensembles.stored(logits, "a", labels), whole), "it is not large"
    monkeypatch.setattr(ensembles, "LARGE", NODES)
    assert same(ensembles.stored(logits, "a", labels), whole), "it is just not large"
    monkeypatch.setattr(ensembles, "LARGE", NODES - 1)
    assert same(ensembles.stored(logits, "a", GRAPH.labels), whole), "every node has a label"
    part = ensembles.stored(logits, "a", labels)
    assert part["nodes"].dtype == np.int64
    assert part["nodes"].tolist() == [node for node in range(NODES) if node not in (0, 7, NODES - 1)]
    for key in ("probabilities", "logits"):
        assert part[key].dtype == np.float16
        assert np.array_equal(part[key], whole[key][part["nodes"]])


@pytest.mark.parametrize("how", ["mean-probability", "mean-logit"])
def test_an_ensemble_of_predictions_of_some_nodes(monkeypatch, how):
    raw = [np.random.RandomState(seed).randn(NODES, CLASSES) for seed in range(3)]
    whole = ensembles.combine([ensembles.stored(logits, "a") for logits in raw], how).predictions
    monkeypatch.setattr(ensembles, "LARGE", 10)
    parts = [ensembles.stored(logits, "a", some_labelled()) for logits in raw]
    made = ensembles.combine(parts, how).predictions
    assert set(made) == {*whole, "nodes"}
    assert np.array_equal(made["nodes"], parts[0]["nodes"])
    assert np.array_equal(made["probabilities"], whole["probabilities"][made["nodes"]])


def test_members_of_different_nodes_are_refused(monkeypatch):
    logits = np.zeros((NODES, CLASSES))
    monkeypatch.setattr(ensembles, "LARGE", 10)
    some = ensembles.stored(logits, "a", some_labelled())
    others = {**some, "nodes": some["nodes"] - 1}
    unnamed = {key: array for key, array in some.items() if key != "nodes"}
    for pair in ([some, others], [some, unnamed], [unnamed, some]):
        with pytest.raises(JobError, match="different nodes; remove"):
            ensembles.combine(pair, "mean-logit")


def test_mean_of_probabilities():
    parts = members()
    made = ensembles.combine(parts, "mean-probability").predictions
    mean = np.mean([part["probabilities"].astype(np.float64) for part in parts], axis=0)
    np.testing.assert_allclose(made["probabilities"], mean, atol=2e-3)
    np.testing.assert_allclose(softmax(made["logits"].astype(np.float64)), mean, atol=4e-3)
    assert made["probabilities"].dtype == np.float16


def test_mean_of_logits():
    """The mean of raw logits, though stored logits are shifted row by row: softmax does not see a shift."""
    state = np.random.RandomState(2)
    raw = [state.randn(NODES, CLASSES) * 3 + 100 * state.rand(NODES, 1) for _ in range(3)]
    made = ensembles.combine([ensembles.stored(logits, "a") for logits in raw], "mean-logit").predictions
    np.testing.assert_allclose(made["probabilities"], softmax(np.mean(raw, axis=0)), atol=4e-3)


def test_the_two_means_differ():
    parts = [ensembles.stored(np.array([[9.0, 0.0]]), "a"), *[ensembles.stored(np.array([[0.0, 1.5]]), "a")] * 2]
    assert ensembles.combine(parts, "mean-logit").predictions["probabilities"].argmax() == 0
    assert ensembles.combine(parts, "mean-probability").predictions["probabilities"].argmax() == 1


def test_members_of_different_splits_are_refused():
    with pytest.raises(JobError, match=r"trained on different splits \(a, b\)"):
        ensembles.combine([*members(2, "a"), *members(1, "b")], "mean-probability")


def test_members_of_different_shapes_are_refused():
    other = ensembles.stored(np.zeros((NODES, CLASSES + 1)), "a")
    for how in ("mean-probability", "mean-logit"):
        with pytest.raises(JobError, match="different shapes"):
            ensembles.combine([*members(1), other], how)


def test_an_ensemble_of_one_is_that_one():
    (only,) = members(1)
    made = ensembles.combine([only], "mean-probability").predictions
    assert np.array_equal(made["probabilities"].argmax(axis=1), only["probabilities"].argmax(axis=1))
    assert str(made["split_fingerprint"]) == "a"


def test_the_order_of_members_does_not_matter():
    parts = members()
    for how in ("mean-probability", "mean-logit"):
        one, two = (ensembles.combine(order, how).predictions for order in (parts, parts[::-1]))
        np.testing.assert_allclose(one["probabilities"], two["probabilities"], atol=1e-3)


def test_a_split_is_part_of_what_is_compared():
    assert isinstance(SPLIT, Split)
    assert SPLIT.fingerprint != random_split(GRAPH.labels, "random-60-20-20", 1).fingerprint
