"""Losses and label inputs: against dense formulas and finite differences; validation and test labels cannot get in."""

import math

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, rel_entr, softmax
from torch import Tensor, nn

from stage_bench.errors import JobError
from stage_bench.training import label_inputs
from stage_bench.training.label_inputs import LabelPasses
from stage_bench.training.losses import LOSSES, cross_entropy, distillation, log_epsilon
from stage_bench.training.options import TrainingOptions
from stage_bench.training.task import Task

NODES, CLASSES, DIM = 12, 4, 3


def logits(seed: int = 0) -> Tensor:
    return 3 * torch.randn(NODES, CLASSES, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def classes() -> Tensor:
    return torch.randint(CLASSES, (NODES,), generator=torch.Generator().manual_seed(1))


def each_cross_entropy(smoothing: float) -> np.ndarray:
    wanted = np.eye(CLASSES)[classes().numpy()] * (1 - smoothing) + smoothing / CLASSES
    return -(wanted * log_softmax(logits().numpy(), axis=1)).sum(1)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_losses_are_their_formulas(smoothing):
    each = each_cross_entropy(smoothing)
    assert float(cross_entropy(logits(), classes(), smoothing)) == pytest.approx(each.mean())
    epsilon = 1 - math.log(2)
    expected = np.mean(np.log(epsilon + each) - np.log(epsilon))
    assert float(log_epsilon(logits(), classes(), smoothing)) == pytest.approx(expected)
    assert expected != pytest.approx(each.mean(), rel=0.1)


def test_log_epsilon_is_zero_where_the_class_is_sure_and_pulls_less_where_it_is_wrong():
    sure = torch.tensor([[60.0, 0.0]], dtype=torch.float64)
    assert float(log_epsilon(sure, torch.tensor([0]))) == pytest.approx(0, abs=1e-12)
    for loss, least, most in ((cross_entropy, 0.99, 1.01), (log_epsilon, 0.0, 0.02)):
        wrong = sure.clone().requires_grad_()
        loss(wrong, torch.tensor([1])).backward()
        assert least < float(wrong.grad[0, 0]) < most, loss


@pytest.mark.parametrize("temperature", [0.7, 1.0, 2.5])
def test_distillation_is_the_divergence_that_scipy_computes(temperature):
    student, teacher = logits(0), logits(2)
    q, p = (softmax(x.numpy() / temperature, axis=1) for x in (teacher, student))
    expected = temperature**2 * rel_entr(q, p).mean()
    assert float(distillation(student, teacher, temperature)) == pytest.approx(expected)
    assert float(distillation(teacher, teacher, temperature)) == pytest.approx(0, abs=1e-12)


def test_distillation_is_what_torchs_kl_div_loss_makes_of_it():
    """The OGB code's own words: `KLDivLoss()`, whose mean runs over nodes and classes, times T squared."""
    student, teacher, t = logits(0), logits(2), 0.7
    with pytest.warns(UserWarning, match="support size"):
        theirs = nn.KLDivLoss()(torch.log_softmax(student / t, 1), torch.softmax(teacher / t, 1)) * t * t
    assert float(distillation(student, teacher, t)) == pytest.approx(float(theirs))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_gradients_of_losses_are_finite_differences(name, smoothing):
    x = logits().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: LOSSES[name](x, classes(), smoothing), (x,))


def test_gradients_of_distillation_are_finite_differences_and_spare_the_teacher():
    x, teacher = logits().requires_grad_(), logits(2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: distillation(x, teacher.detach(), 0.7), (x,))
    distillation(x, teacher, 0.7).backward()
    assert teacher.grad is None


def test_the_options_name_the_losses():
    assert set(LOSSES) == set(TrainingOptions.model_fields["loss"].annotation.__args__)
    for wrong in ({"distillation": 1.1}, {"distillation_temperature": 0.0}, {"label_input_share": 1.0}, {"loss": "l2"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            TrainingOptions(**wrong)


# what a model sees of labels


def features() -> Tensor:
    return torch.randn(NODES, DIM, generator=torch.Generator().manual_seed(3))


def ask(model, shown: list[int], labels: list[int], iterations: int = 0) -> tuple[Tensor, list[Tensor]]:
    """The logits, and every input that the model was given."""
    given = []

    def recorded(x: Tensor) -> Tensor:
        given.append(x)
        return model(x)

    said = label_inputs.logits(recorded, features(), torch.tensor(shown), torch.tensor(labels), CLASSES, iterations)
    return said, given


def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(DIM + CLASSES, CLASSES)


def test_shown_labels_are_one_hot_columns_beside_the_features():
    expected = np.hstack([features().numpy(), np.zeros((NODES, CLASSES))])
    for node, label in ((2, 3), (7, 0), (8, 0)):
        expected[node, DIM + label] = 1
    said, (given,) = ask(linear(), [2, 7, 8], [3, 0, 0])
    np.testing.assert_allclose(given.numpy(), expected)
    torch.testing.assert_close(said, linear()(given))


def test_iterations_put_the_models_probabilities_in_for_the_others():
    weight, bias = (parameter.detach().double().numpy() for parameter in linear().parameters())
    x, known = features().double().numpy(), np.zeros((NODES, CLASSES))
    known[[1, 4], [2, 0]] = 1
    columns = known
    for _ in range(3):
        columns = softmax(np.hstack([x, columns]) @ weight.T + bias, axis=1)
        columns[[1, 4]] = known[[1, 4]]
    said, given = ask(linear(), [1, 4], [2, 0], iterations=3)
    assert len(given) == 4
    np.testing.assert_allclose(given[-1].detach().numpy(), np.hstack([x, columns]), atol=1e-5)
    np.testing.assert_allclose(said.detach().numpy(), np.hstack([x, columns]) @ weight.T + bias, atol=1e-5)


def test_gradients_flow_through_the_last_pass_alone():
    model = linear()
    said, given = ask(model, [1, 4], [2, 0], iterations=2)
    assert not any(x.requires_grad for x in given)
    said.square().sum().backward()
    by_hand = linear()
    by_hand(given[-1].detach()).square().sum().backward()
    torch.testing.assert_close(model.weight.grad, by_hand.weight.grad)


def test_a_draw_divides_the_training_nodes_anew_each_time():
    train = torch.tensor([3, 5, 8, 13, 21, 34, 55, 89, 144, 233])
    for share, count in ((0.5, 5), (0.39, 3), (0.01, 1), (0.99, 9)):
        torch.manual_seed(0)
        shown, asked = label_inputs.draw(train, share)
        assert len(shown) == count
        assert sorted([*shown.tolist(), *asked.tolist()]) == train.tolist()
    torch.manual_seed(0)
    first, second = label_inputs.draw(train, 0.5), label_inputs.draw(train, 0.5)
    assert set(first[0].tolist()) != set(second[0].tolist())
    torch.manual_seed(0)
    assert torch.equal(label_inputs.draw(train, 0.5)[0], first[0])
    counts = torch.zeros(234)
    for _ in range(400):
        counts[label_inputs.draw(train, 0.5)[0]] += 1
    assert counts[train].min() > 140, "every node is shown now and then: 200 of 400 times are expected"


def test_one_training_node_cannot_be_divided():
    with pytest.raises(JobError, match="at least 2 training nodes"):
        label_inputs.draw(torch.tensor([3]), 0.5)


def test_a_backbone_that_diffuses_first_is_refused():
    label_inputs.check(True, "gat")
    with pytest.raises(JobError, match="label_inputs: sign diffuses its features before training"):
        label_inputs.check(False, "sign")


@pytest.mark.parametrize("iterations", [0, 2])
def test_validation_and_test_labels_reach_nothing(iterations):
    """Four epochs on labels that are right, wrong or absent elsewhere than on the training nodes: the same bits."""
    train, val = torch.arange(0, 6), torch.arange(6, 9)
    rest = torch.arange(6, NODES)
    right = classes()
    options = TrainingOptions(label_inputs=True, label_iterations=iterations)

    def trained(labels: Tensor) -> Tensor:
        passes = LabelPasses(Task(None, features(), labels, train, val, CLASSES), options)
        model = Graphless(linear())
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        torch.manual_seed(5)
        for _ in range(4):
            for step in passes.train(model):
                assert step.nodes is None, "logits of all nodes"
                assert set(step.asked.tolist()) < set(train.tolist())
                optimizer.zero_grad()
                cross_entropy(step.logits[step.asked], labels[step.asked]).backward()
                optimizer.step()
        with torch.no_grad():
            said = passes.predict(model)
            assert torch.equal(passes.predict(model, val), said[val])
        return said

    base = trained(right)
    permuted, absent, other = right.clone(), right.clone(), right.clone()
    permuted[rest] = (right[rest] + 1) % CLASSES
    absent[rest] = -1
    other[train] = (right[train] + 1) % CLASSES
    assert torch.equal(trained(permuted), base)
    assert torch.equal(trained(absent), base)
    assert not torch.equal(trained(other), base), "were nothing looked at, the above would show nothing"


class Graphless(nn.Module):
    """A module of the inputs as a model, which is also given the graph."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, graph: None, x: Tensor) -> Tensor:
        return self.inner(x)


def test_passes_read_the_options_and_show_all_training_labels_in_the_end():
    train = torch.arange(0, 10)
    task = Task(None, features(), classes(), train, torch.tensor([10]), CLASSES)
    given = []

    def recorded(x: Tensor) -> Tensor:
        given.append(x[:, DIM:])
        return linear()(x)

    model = Graphless(linear())
    model.inner.forward = recorded
    passes = LabelPasses(task, TrainingOptions(label_inputs=True, label_input_share=0.3, label_iterations=1))
    ((said, _, asked),) = passes.train(model)
    assert said.shape == (NODES, CLASSES)
    assert len(asked) == 7
    first, second = given
    assert first.sum() == 3
    assert not first[asked].any(), "a node that is asked shows nothing"
    torch.testing.assert_close(second.sum(1), torch.ones(NODES))
    given.clear()
    passes.predict(model)
    assert torch.equal(given[0][train].argmax(1), classes()[train])
    assert not given[0][10:].any()


def test_an_asked_node_does_not_see_its_own_label():
    """A model that copies its label columns is right where labels are shown, and knows nothing elsewhere."""
    said, _ = ask(lambda x: x[:, DIM:], [0, 1, 2], [1, 2, 3])
    assert said[:3].argmax(1).tolist() == [1, 2, 3]
    assert not said[3:].any()
