"""Our kernels against torch's, DGL's and float64, and their random masks against what chance would give."""

import copy
import os
import pickle
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stage_bench.backbones.gat import GATConv, edge_softmax
from stage_bench.backbones.gcn import GCN
from stage_bench.backbones.options import GCNOptions, RevGATOptions
from stage_bench.backbones.revgat import RevGAT
from stage_bench.dgl_library import dgl
from stage_bench.kernels import activation, attention, choice, compiling, masks, products, row_blocks

ROWS, DIM = 3 * row_blocks.ROWS // 2, 12  # more than one block, the last not full
TORCH = choice.Choice(fused=False)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=[1, 2])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


# masks


def signs(size: int, drop: float, key: int) -> np.ndarray:
    """The mask as numbers of mean 0 and variance 1."""
    kept = masks.keep_mask(size, drop, key).numpy().astype(np.float64)
    return (kept - (1 - drop)) / np.sqrt(drop * (1 - drop))


@pytest.mark.parametrize("drop", [0.1, 0.5, 0.75])
def test_masks_keep_the_share_that_they_should(drop):
    size = 1_000_000
    for key in (0, 1, 2**62 + 12345):
        assert abs(signs(size, drop, key).mean()) < 5 / np.sqrt(size)


@pytest.mark.parametrize("shift", [1, 2, 64, 128, 256, 4096])
def test_entries_of_a_mask_do_not_know_each_other(shift):
    x = signs(1_000_000, 0.5, 7)
    assert abs((x[shift:] * x[:-shift]).mean()) < 5 / np.sqrt(len(x) - shift)


def test_masks_of_neighbouring_keys_do_not_know_each_other():
    size = 1_000_000
    for other in (8, 9, 7 + 2**32, 7 + 2**40):
        assert abs((signs(size, 0.5, 7) * signs(size, 0.5, other)).mean()) < 5 / np.sqrt(size)


def test_columns_of_a_mask_are_all_kept_alike():
    kept = masks.keep_mask(4096 * 256, 0.5, 3).view(4096, 256).double().mean(dim=0)
    assert (kept - 0.5).abs().max() < 5 * 0.5 / np.sqrt(4096)


def test_entries_beyond_32_bits_are_new_ones():
    """A counter that overflowed would begin again."""
    key = np.uint64(7)
    low = [int(masks.hashed(key, i)) for i in range(200)]
    high = [int(masks.hashed(key, i + 2**32)) for i in range(200)]
    assert len({*low, *high}) == 400
    assert max(*low, *high) < 2**32


def test_the_hash_is_splitmix64():
    """Of the reference implementation, seeded with 1234567: its first three numbers' upper halves."""
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert [int(masks.hashed(np.uint64(1234567), i)) for i in range(3)] == [number >> 32 for number in expected]


def test_keys_come_from_torchs_generator():
    torch.manual_seed(1)
    first = masks.draw_key(), masks.draw_key()
    torch.manual_seed(1)
    assert (masks.draw_key(), masks.draw_key()) == first
    assert first[0] != first[1]


# batch norm, ReLU, dropout


def plain(x: Tensor, norm: nn.BatchNorm1d | None, mask: Tensor, drop: float) -> Tensor:
    return F.relu(x if norm is None else norm(x)) * mask / (1 - drop)


def norms() -> tuple[nn.BatchNorm1d, nn.BatchNorm1d]:
    torch.manual_seed(0)
    made = nn.BatchNorm1d(DIM), nn.BatchNorm1d(DIM)
    for norm in made:
        norm.weight.data = 0.5 + normal(DIM, seed=1).abs()
        norm.bias.data = normal(DIM, seed=2)
        norm.running_mean.data = normal(DIM, seed=3)
        norm.running_var.data = 0.5 + normal(DIM, seed=4).abs()
    return made


@pytest.mark.parametrize("drop", [0.0, 0.3])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("normed", [True, False])
def test_norm_relu_dropout_is_torchs_with_that_mask(drop, training, normed, threads):
    ours, theirs = norms() if normed else (None, None)
    mask = masks.keep_mask(ROWS * DIM, drop if training else 0.0, 5).view(ROWS, DIM)
    grad = normal(ROWS, DIM, seed=6)
    found, expected = [], []
    for norm, to in ((ours, found), (theirs, expected)):
        x = (3 * normal(ROWS, DIM) + 2).requires_grad_()
        if norm is not None:
            norm.train(training)
        out = (
            activation.norm_relu_dropout(x, norm, drop, training, key=5)
            if to is found
            else plain(x, norm, mask, drop if training else 0.0)
        )
        out.backward(grad)
        to += [out.detach(), x.grad]
        if norm is not None:
            to += [norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var]
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=2e-4)


def test_a_mean_far_from_zero_costs_no_digits():
    x = normal(ROWS, DIM) + 10_000
    x[0] = 0  # a first row unlike the others
    out = activation.norm_relu_dropout(x, nn.BatchNorm1d(DIM), 0.0, True)
    expected = F.relu(F.batch_norm(x.double(), None, None, training=True)).float()
    torch.testing.assert_close(out, expected, atol=2e-3, rtol=1e-3)


def test_the_recomputation_moves_no_statistics():
    norm, _ = norms()
    before = [norm.running_mean.clone(), norm.running_var.clone()]
    activation.norm_relu_dropout(normal(ROWS, DIM), norm, 0.5, True, key=1, update_statistics=False)
    assert all(map(torch.equal, before, [norm.running_mean, norm.running_var]))
    activation.norm_relu_dropout(normal(ROWS, DIM), norm, 0.5, True, key=1)
    assert not any(map(torch.equal, before, [norm.running_mean, norm.running_var]))


def test_what_is_no_number_stays_so():
    x = normal(ROWS, DIM)
    x[3, 4] = torch.nan
    assert activation.norm_relu_dropout(x, None, 0.0, True)[3, 4].isnan()
    assert activation.norm_relu_dropout(x, nn.BatchNorm1d(DIM), 0.0, True)[:, 4].isnan().all()


def test_one_node_has_no_variance():
    with pytest.raises(ValueError, match="more than one"):
        activation.norm_relu_dropout(normal(1, DIM), nn.BatchNorm1d(DIM), 0.0, True)


def test_results_do_not_depend_on_the_number_of_threads():
    def all_of_it() -> list[Tensor]:
        norm, _ = norms()
        x = normal(ROWS, DIM).requires_grad_()
        out = activation.norm_relu_dropout(x, norm, 0.5, True, key=9)
        out.square().sum().backward()
        return [out.detach(), x.grad, norm.weight.grad, norm.running_var]

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = all_of_it()
        torch.set_num_threads(2)
        assert all(map(torch.equal, one, all_of_it()))
    finally:
        torch.set_num_threads(before)


def test_a_keyed_mask_is_one_mask_in_torchs_kernels_too():
    x = normal(50, DIM).abs() + 1
    with choice.using(TORCH):
        a, b, other = (activation.norm_relu_dropout(x, None, 0.5, True, key=key) for key in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a == 0, other == 0)
    assert 0.4 < (a == 0).float().mean() < 0.6


def test_dropout_scales_what_it_keeps_and_masks_its_gradient():
    x = (normal(ROWS, DIM) - 5).requires_grad_()
    torch.manual_seed(2)
    out = activation.dropout(x, 0.25, True)
    kept = out != 0
    torch.testing.assert_close(out[kept], x[kept] / 0.75)
    assert abs(kept.double().mean() - 0.75) < 0.01
    out.sum().backward()
    torch.testing.assert_close(x.grad, kept / 0.75)
    assert activation.dropout(x, 0.25, False) is x
    assert activation.dropout(x, 0.0, True) is x


# dense products


@pytest.mark.parametrize("rows", [7, 2 * 8192 + 3])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_is_the_product(rows, bias):
    x, weight = normal(rows, 9).requires_grad_(), normal(5, 9, seed=1).requires_grad_()
    shift = normal(5, seed=2).requires_grad_() if bias else None
    leaves = [x, weight, *([shift] if bias else [])]
    grad = normal(rows, 5, seed=3)
    out = products.linear(x, weight, shift)
    found = [out.detach(), *torch.autograd.grad(out, leaves, grad)]
    doubles = [leaf.detach().double().requires_grad_() for leaf in leaves]
    exact = F.linear(*doubles)
    for a, b in zip(found, [exact.detach(), *torch.autograd.grad(exact, doubles, grad.double())], strict=True):
        torch.testing.assert_close(a.double(), b, atol=2e-4, rtol=1e-4)


def test_columns_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="a layer for 9 columns is given 4"):
        products.Linear(9, 5)(normal(7, 4))


def test_bfloat16_is_asked_for_and_near():
    x, weight = normal(100, 64), normal(8, 64, seed=1)
    exact = products.linear(x, weight)
    with choice.using(choice.Choice(bfloat16=True)):
        narrow = products.linear(x, weight)
    assert narrow.dtype == torch.float32
    assert not torch.equal(exact, narrow)
    assert (exact - narrow).abs().max() < 0.02 * exact.abs().max()


def counting(monkeypatch) -> list[int]:
    """How many forward products there have been."""
    count = [0]
    forward = products._Linear.forward

    def counted(ctx, x, weight, bias, known, bfloat16):
        count[0] += known is None
        return forward(ctx, x, weight, bias, known, bfloat16)

    monkeypatch.setattr(products._Linear, "forward", staticmethod(counted))
    return count


def test_the_product_of_a_fixed_input_is_made_once_for_each_state_of_the_weights(monkeypatch):
    count = counting(monkeypatch)
    x, layer, fixed = normal(20, 6), nn.Linear(6, 3), products.FixedInput()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.001)
    for step in range(4):
        with torch.no_grad():  # an evaluation, then the training step that follows it
            seen = fixed.linear(x, layer.weight, layer.bias)
        out = fixed.linear(x, layer.weight, layer.bias)
        assert torch.equal(seen, out)
        torch.testing.assert_close(out, F.linear(x, layer.weight, layer.bias))
        expected = torch.autograd.grad(F.linear(x, layer.weight, layer.bias).square().sum(), list(layer.parameters()))
        optimizer.zero_grad()
        out.square().sum().backward()
        for parameter, gradient in zip(layer.parameters(), expected, strict=True):
            torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-4)
        assert count[0] == step + 1
        optimizer.step()
    state = {key: value + 1 for key, value in layer.state_dict().items()}
    layer.load_state_dict(state)
    torch.testing.assert_close(fixed.linear(x, layer.weight, layer.bias), F.linear(x, layer.weight, layer.bias))
    other = x + 1
    torch.testing.assert_close(fixed.linear(other, layer.weight, layer.bias), F.linear(other, layer.weight, layer.bias))
    other += 1
    torch.testing.assert_close(fixed.linear(other, layer.weight, layer.bias), F.linear(other, layer.weight, layer.bias))


@pytest.mark.parametrize("change", ["fused step", "data", "bias", "input", "output", "copy"])
def test_no_product_is_used_that_is_not_of_these(change):
    x, layer, fixed = normal(20, 6), nn.Linear(6, 3), products.FixedInput()
    out = fixed.linear(x, layer.weight, layer.bias)
    if change == "fused step":  # which counts no change of the weights
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, fused=True)
        out.sum().backward()
        optimizer.step()
    elif change == "data":
        layer.weight.data.mul_(2)
    elif change == "bias":
        layer.bias.data.add_(1)
    elif change == "input":
        x.add_(1)
    elif change == "output":
        out.detach().add_(1)
    else:
        fixed = copy.deepcopy(fixed)
        assert len(pickle.dumps(fixed)) < 200
    expected = F.linear(x, layer.weight, layer.bias)
    torch.testing.assert_close(fixed.linear(x, layer.weight, layer.bias), expected)
    with torch.inference_mode():
        torch.testing.assert_close(fixed.linear(x, layer.weight, layer.bias), expected)


def test_no_rows_at_all():
    assert products.linear(normal(0, 6), normal(3, 6)).shape == (0, 3)


def test_a_part_that_fails_in_another_thread_is_heard_of(threads):
    def kernel(block: int, begin: int, end: int) -> None:
        if block == 1:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        row_blocks.run(kernel, 4 * row_blocks.ROWS)


def test_every_block_is_done_before_the_next_kernel(threads):
    done = []

    def kernel(block: int, begin: int, end: int) -> None:
        time.sleep(0.02 * (block % 2))
        done.append((begin, end))

    row_blocks.run(kernel, 4 * row_blocks.ROWS - 5)
    assert sorted(done) == [
        (i * row_blocks.ROWS, min((i + 1) * row_blocks.ROWS, 4 * row_blocks.ROWS - 5)) for i in range(4)
    ]


def test_an_input_that_learns_is_not_fixed():
    x, layer = normal(20, 6).requires_grad_(), nn.Linear(6, 3)
    products.FixedInput().linear(x, layer.weight, layer.bias).sum().backward()
    torch.testing.assert_close(x.grad, layer.weight.sum(0).expand_as(x))


# attention


def random_graph(num_nodes: int = 60, num_edges: int = 300, seed: int = 0) -> dgl.DGLGraph:
    """Directed, with parallel edges and nodes that receive nothing."""
    ends = torch.randint(0, num_nodes - 5, (2, num_edges), generator=torch.Generator().manual_seed(seed))
    return dgl.graph((ends[0], ends[1]), num_nodes=num_nodes)


def by_dgl(graph, hidden, attn_src, receiving, edge_mask):
    scores = dgl.ops.copy_u(graph, (hidden * attn_src).sum(dim=-1, keepdim=True))
    if receiving is not None:
        scores = scores + dgl.ops.copy_v(graph, receiving)
    weights = edge_softmax(graph, F.leaky_relu(scores, 0.2), edge_mask)
    return dgl.ops.u_mul_e_sum(graph, hidden, weights)


@pytest.mark.parametrize("ids", ["int", "long"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("with_receiving", [False, True])
@pytest.mark.parametrize("block", [False, True])
def test_attention_is_dgls_in_float64(ids, masked, with_receiving, block, threads):
    graph = random_graph()
    if block:  # 25 nodes receive, of all
        sampled = dgl.in_subgraph(graph, torch.arange(25))
        graph = dgl.to_block(sampled, torch.arange(25))
    graph = getattr(graph, ids)()
    leaves = [normal(graph.num_src_nodes(), 3, 5), normal(1, 3, 5, seed=1), normal(graph.num_dst_nodes(), 3, 1, seed=2)]
    leaves = [leaf.requires_grad_() for leaf in leaves][: 3 if with_receiving else 2]
    edge_mask = normal(graph.num_edges(), seed=3) > 0.3 if masked else None
    grad = normal(graph.num_dst_nodes(), 3, 5, seed=4)
    out = attention.attend(graph, *leaves, *([] if with_receiving else [None]), edge_mask)
    found = [out.detach(), *torch.autograd.grad(out, leaves, grad)]
    doubles = [leaf.detach().double().requires_grad_() for leaf in leaves]
    exact = by_dgl(graph, *doubles, *([] if with_receiving else [None]), edge_mask)
    for a, b in zip(found, [exact.detach(), *torch.autograd.grad(exact, doubles, grad.double())], strict=True):
        torch.testing.assert_close(a.double(), b, atol=1e-5, rtol=1e-4)


def test_a_graph_whose_edges_need_no_numbers():
    ends, indices, _ = random_graph().adj_tensors("csc")
    graph = dgl.graph(("csc", (ends, indices, [])), num_nodes=60)
    hidden, attn = normal(60, 2, 4), normal(1, 2, 4, seed=1)
    edge_mask = normal(graph.num_edges(), seed=3) > 0
    found = attention.attend(graph, hidden, attn, None, edge_mask)
    torch.testing.assert_close(found, by_dgl(graph, hidden, attn, None, edge_mask), atol=1e-5, rtol=1e-4)


def test_scores_of_any_size_stay_finite():
    graph, hidden, attn = random_graph(), 100 * normal(60, 2, 4), normal(1, 2, 4, seed=1)
    out = attention.attend(graph, hidden.requires_grad_(), attn, None, None)
    assert out.isfinite().all()
    out.sum().backward()
    assert hidden.grad.isfinite().all()
    exact = by_dgl(graph, hidden.double(), attn.double(), None, None)
    torch.testing.assert_close(out.double(), exact, atol=1e-2, rtol=1e-3)


def test_one_conv_is_the_same_in_both_kernels():
    torch.manual_seed(0)
    graph, conv, x = random_graph(), GATConv(7, 4, 3, residual=True), normal(60, 7)
    ours = conv(graph, x)
    with choice.using(TORCH):
        torch.testing.assert_close(ours, conv(graph, x), atol=1e-5, rtol=1e-5)


# whole models


@pytest.mark.parametrize(
    ("backbone", "options"),
    [
        (GCN, GCNOptions(num_layers=3, hidden=8, dropout=0.0)),
        (RevGAT, RevGATOptions(hidden=8, dropout=0.0, edge_dropout=0.0, input_dropout=0.0)),
    ],
)
def test_training_steps_agree_with_torchs_kernels(backbone, options):
    """Without random masks both ways compute the same, step after step."""
    graph, inputs = backbone.prepare(random_graph(), normal(60, 6), options)
    labels = torch.arange(60) % 3
    after = []
    for which in (choice.Choice(), TORCH):
        torch.manual_seed(0)
        model = backbone(6, 3, options)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with choice.using(which):
            for _ in range(5):
                optimizer.zero_grad()
                F.cross_entropy(model(graph, inputs), labels).backward()
                optimizer.step()
                with torch.no_grad():
                    logits = model.eval()(graph, inputs)
                model.train()
        after.append(logits)
    torch.testing.assert_close(*after, atol=1e-4, rtol=1e-3)


@pytest.mark.skipif(not Path("/lib/x86_64-linux-gnu/libc.so.6").exists(), reason="mallopt is glibc's")
def test_the_allocator_keeps_what_is_freed_until_it_is_to_give_it_back():
    code = """
import numpy as np
from stage_bench.diffusion.budget import resident_bytes
from stage_bench.kernels import allocator
held = []
for keep in (True, False):
    assert allocator.keep_memory(keep)
    before = resident_bytes()
    many = [np.ones(10_000_000 // 8) for _ in range(20)]
    del many
    held.append(resident_bytes() - before)
    allocator.give_back()
    held.append(resident_bytes() - before)
print(*held)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    kept, given_back, freed, _ = map(int, done.stdout.split())
    assert kept > 150_000_000
    assert given_back < 50_000_000
    assert freed < 50_000_000


def test_kernels_are_compiled_where_only_this_user_writes(tmp_path):
    """Beside the source there may be no right to write, and a home there may be none."""
    code = "from stage_bench.kernels import compiling as c; import os; where = os.environ['NUMBA_CACHE_DIR']; "
    code += "assert os.stat(where).st_mode & 0o022 == 0; print(where)"
    environment = {key: value for key, value in os.environ.items() if key not in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME")}
    for home, inside in ((tmp_path, True), (Path("/proc"), False)):
        run = {"env": {**environment, "HOME": str(home)}, "capture_output": True, "text": True, "check": True}
        where = Path(subprocess.run([sys.executable, "-c", code], **run).stdout.strip())
        assert where.is_relative_to(home) == inside
        assert where.is_dir() == inside, "a folder for one process goes with it"


def test_each_state_of_the_sources_is_compiled_into_a_folder_of_its_own(tmp_path):
    """Else an index of new sources could be left with compiled functions of old ones (numba writes the index first)."""
    package = Path(compiling.__file__).parents[1]
    named = {str(path.relative_to(package)) for path in package.rglob("*.py") if "@njit" in path.read_text()}
    assert named == set(compiling.SOURCES)
    copy = tmp_path / "code" / "stage_bench"
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__"))
    environment = {key: value for key, value in os.environ.items() if key != "NUMBA_CACHE_DIR"}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": str(copy.parent)}
    code = "from stage_bench.kernels import compiling; import os; print(os.environ['NUMBA_CACHE_DIR'])"

    def where() -> str:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
        return done.stdout.strip()

    before = where()
    assert where() == before
    os.utime(copy / compiling.SOURCES[0], ns=(0, 0))
    assert Path(where()).parent == Path(before).parent
    assert where() != before


def test_every_kernel_is_compiled_before_training():
    """What is compiled later could be compiled by two workers at once, into one file."""
    code = """
import tiny, torch
from stage_bench.kernels import activation, attention, compiling, masks
from stage_bench.training import blocks, loop
from stage_bench.backbones.revgat import RevGAT, RevGATOptions
from stage_bench.backbones.gcn import GCN, GCNOptions
from stage_bench.runs.clock import Clock
from stage_bench.training.options import TrainingOptions
loop.warm_up()
kernels = [value for module in (activation, attention, masks, blocks) for value in vars(module).values()
           if hasattr(value, "signatures") and value.__name__ not in ("_leaky", "hashed")]  # part of others
assert len(kernels) >= 12, kernels
before = [len(kernel.signatures) for kernel in kernels]
assert all(before), [kernel.__name__ for kernel, count in zip(kernels, before) if not count]
data = tiny.text_graph(60)
nodes = torch.arange(60).numpy()
for backbone, options in ((RevGAT, RevGATOptions(hidden=8, use_attn_dst=True)), (GCN, GCNOptions(hidden=8))):
    for graph in (data.graph, data.graph.long()):
        for batching in ("full", "neighbor"):
            prepared = backbone.prepare(graph, torch.randn(60, 5), options)
            task = loop.task(*prepared, data.labels, nodes[:40], nodes[40:], 3)
            training = TrainingOptions(epochs=2, batching=batching)
            loop.fit(lambda: backbone(5, 3, options), task, training, 0, Clock())
after = [len(kernel.signatures) for kernel in kernels]
assert before == after, [kernel.__name__ for kernel, a, b in zip(kernels, before, after) if a != b]
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert not done.returncode, done.stderr[-2000:]
