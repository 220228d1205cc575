"""What torch does with modules besides calling them: traces, checkpoints, batched gradients, meta tensors."""

import copy

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.optim.swa_utils import AveragedModel
from torch.utils.checkpoint import checkpoint

from cbnorm.norms import ClusterBatchNorm, SCBNorm, UCBNorm, apply_norm, cluster_ids, create_norm, native

IDS = torch.arange(32) % 4 - 1


@pytest.fixture(autouse=True)
def _kernels_for_every_size(monkeypatch):
    monkeypatch.setattr(native, "SMALLEST", 0)


class Told(torch.nn.Module):
    """A layer that is told these ids."""

    def __init__(self, layer, ids):
        super().__init__()
        self.layer = layer
        self.register_buffer("ids", ids)

    def forward(self, x):
        return apply_norm(self.layer, x, self.ids)


@pytest.mark.filterwarnings("ignore")  # jit.trace is deprecated, and warns of every check of a shape
@pytest.mark.parametrize("trace", [torch.jit.trace, make_fx], ids=["jit", "fx"])
def test_a_trace_is_the_layer(own, draw, trace):
    """Tracers see no kernel, and their sizes and tensors have no address."""
    told, first, other = Told(own.make(), IDS).eval(), draw(32, 4, 5, 5), draw(32, 4, 5, 5, seed=1)
    with torch.no_grad():
        # Compiling puts another function in the place of torch.jit.trace.
        traced = trace(told)(first) if trace is make_fx else trace(told, first)
        torch.testing.assert_close(traced(other), told(other), rtol=1e-4, atol=1e-4)


def test_gradients_for_several_cotangents_at_once(own, draw):
    layer = own.make().eval()
    x = draw(32, 4, 5, 5).requires_grad_()
    y = apply_norm(layer, x, IDS)
    cotangents = torch.randn(2, *y.shape)
    (both,) = torch.autograd.grad(y, x, cotangents, is_grads_batched=True, retain_graph=True)
    alone = [torch.autograd.grad(y, x, one, retain_graph=True)[0] for one in cotangents]
    torch.testing.assert_close(both, torch.stack(alone), rtol=1e-3, atol=1e-4)


def test_gradients_of_single_samples(clustered, draw):
    layer = clustered.make().eval()
    parameters = dict(layer.named_parameters())
    if not parameters:
        pytest.skip("nothing is learned")
    x = draw(6, 4, 5)

    def loss(values, sample, cluster):
        y = torch.func.functional_call(layer, values, (sample[None], cluster[None]))
        return y.square().sum()

    ids = torch.tensor([0, 1, 2, -1, 1, 0])
    grads = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(parameters, x, ids)
    for k in range(len(x)):
        for name, grad in torch.func.grad(loss)(parameters, x[k], ids[k]).items():
            torch.testing.assert_close(grads[name][k], grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("reentrant", [True, False])
def test_computing_again_gives_the_same_gradients_and_changes_no_state(own, draw, reentrant):
    """Activation checkpointing: the second forward pass must find the mixture that the first one used."""
    layer, cotangent = own.make(), torch.randn(32, 4, 5, 5)
    apply_norm(layer, draw(32, 4, 5, 5, seed=1), IDS)
    found = []
    for again in (False, True):
        own_layer, x = copy.deepcopy(layer), draw(32, 4, 5, 5).requires_grad_()
        run = Told(own_layer, IDS)
        y = checkpoint(run, x, use_reentrant=reentrant) if again else run(x)
        y.backward(cotangent)
        found.append([x.grad, *(p.grad for p in own_layer.parameters()), *own_layer.buffers()])
    for expected, got in zip(*found, strict=True):
        assert expected is got is None or torch.equal(expected, got)


@pytest.mark.parametrize("reentrant", [True, False])
def test_ids_that_are_gone_when_a_layer_is_computed_again_are_missed_loudly(reentrant):
    layer, ids = SCBNorm(4, num_clusters=2), torch.tensor([0, 1, 1, 0])
    x = torch.randn(4, 4, requires_grad=True)
    with cluster_ids(ids):
        y = checkpoint(layer, x, use_reentrant=reentrant)
    with pytest.raises(RuntimeError, match="outside of cluster_ids: call backward"):
        y.sum().backward()
    with cluster_ids(ids):
        checkpoint(layer, x, use_reentrant=reentrant).sum().backward()


def test_shapes_can_be_inferred_without_data(case):
    layer = case.make().to("meta")
    ids = torch.empty(6, dtype=torch.long, device="meta")
    layer.eval()
    assert apply_norm(layer, torch.empty(6, 4, 5, 5, device="meta"), ids).shape == (6, 4, 5, 5)


def test_all_of_a_layer_is_made_where_it_is_wanted(own):
    options = own.options | {"device": "meta"}
    layer = create_norm(own.name, 4, **options)
    tensors = {**dict(layer.named_parameters()), **dict(layer.named_buffers())}
    assert {name for name, tensor in tensors.items() if not tensor.is_meta} == set()


def test_a_layer_of_the_meta_device_can_be_made_real(own, draw):
    """What FSDP does: to_empty, then reset_parameters of every module."""
    options = own.options | ({"seed": 3} if own.name in {"mn", "ucb", "uan", "mode"} else {})
    fresh = create_norm(own.name, 4, **options)
    with torch.device("meta"):
        empty = create_norm(own.name, 4, **options)
    empty.to_empty(device="cpu")
    used = copy.deepcopy(fresh)
    apply_norm(used, draw(6, 4, 5, 5) + 100, IDS[:6])
    for layer in (empty, used):
        for tensor in (*layer.parameters(), *layer.buffers()) if layer is empty else ():
            tensor.data.fill_(77)
        layer.reset_parameters()
        for name, expected in fresh.state_dict().items():
            assert torch.equal(layer.state_dict()[name], expected), name
        state = copy.deepcopy(fresh)
        x = draw(6, 4, 5, 5)
        assert torch.equal(apply_norm(layer, x, IDS[:6]), apply_norm(state, x, IDS[:6]))


def test_a_copy_that_got_its_mixture_by_its_buffers_keeps_it(draw):
    """DistributedDataParallel and averaged models copy buffers past load_state_dict."""
    for name in ("ucb", "mn"):
        options = {"init": "first_batch"} if name == "ucb" else {}
        layer, other = (create_norm(name, 4, num_components=3, **options) for _ in range(2))
        layer(draw(32, 4) + 10)
        for mine, theirs in zip(other.buffers(), layer.buffers(), strict=True):
            mine.copy_(theirs)
        for mine, theirs in zip(other.parameters(), layer.parameters(), strict=True):
            mine.data.copy_(theirs.data)
        x = draw(32, 4, seed=1)
        assert torch.equal(other(x), layer(x)), name


@pytest.mark.parametrize("name", ["mn", "ucb"])
def test_buffers_can_be_averaged(name, draw):
    options = {"init": "first_batch"} if name == "ucb" else {}
    model = torch.nn.Sequential(create_norm(name, 4, num_components=2, **options))
    averaged = AveragedModel(model, use_buffers=True)
    for seed in range(3):
        model(draw(32, 4, seed=seed))
        averaged.update_parameters(model)
    assert torch.isfinite(averaged(draw(8, 4))).all()


@pytest.mark.parametrize("count", [4, 64])
def test_the_order_in_memory_is_that_of_the_input(case, draw, count):
    layer, ids = case.make(), torch.arange(count) % 3
    x = draw(count, 4, 3, 5, 7).to(memory_format=torch.channels_last_3d)
    assert apply_norm(layer, x, ids).is_contiguous(memory_format=torch.channels_last_3d)
    tokens = draw(count, 6, 4)
    for mode in (True, False):
        layer = case.make(channel_dim=-1).train(mode)
        assert apply_norm(layer, tokens, ids).view(-1, 4).shape == (count * 6, 4)


def test_clusters_do_not_feel_each_other():
    """Moments of a cluster are as exact beside a far one as alone; an unknown NaN stays where it is."""
    torch.manual_seed(0)
    ids, x = torch.arange(64) % 2, torch.randn(64, 4, 8, 8)
    x[ids == 0] = x[ids == 0] * 500 + 101325
    x[ids == 1] *= 0.05
    alone = ClusterBatchNorm(4, num_clusters=2)(x[ids == 1], ids[ids == 1])
    beside = ClusterBatchNorm(4, num_clusters=2)(x, ids)[ids == 1]
    torch.testing.assert_close(beside, alone, rtol=1e-4, atol=1e-4)

    layer, x = ClusterBatchNorm(4, num_clusters=2), torch.randn(8, 4)
    x[7] = torch.nan
    finite = torch.isfinite(layer(x, torch.tensor([0, 0, 0, 1, 1, 1, 1, -1]))).all(dim=1)
    assert finite.tolist() == [True] * 7 + [False]
    assert torch.isfinite(layer.running_mean).all()
    assert torch.isfinite(layer.running_var).all()


def test_a_compiler_may_be_given_with_arguments(monkeypatch, tmp_path):
    if native.library() is None:
        pytest.skip("there is no compiler")
    found = []
    monkeypatch.setenv("CXX", "ccache g++ '-I with space'")
    monkeypatch.setattr(native, "_built", lambda compiler: found.append(compiler) or tmp_path / "none.so")
    native.library.__wrapped__()
    assert found == [["ccache", "g++", "-I with space"]]


def test_moving_averages_are_not_moved_by_watching():
    layer = UCBNorm(4, 3, update="moving_average")
    layer(torch.randn(16, 4))
    state = copy.deepcopy(layer.state_dict())
    layer.eval()(torch.randn(16, 4))
    assert all(torch.equal(value, layer.state_dict()[name]) for name, value in state.items())


def test_ids_that_are_an_input_stay_one_when_a_model_is_exported():
    """As docs/norms/README.md says how: the exported module enters the context itself."""

    class WithIds(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, x, ids):
            with cluster_ids(ids):
                return self.model(x)

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 6), create_norm("scb", 6, num_clusters=3)).eval()
    torch.nn.init.normal_(model[1].mean)
    x, first, other = torch.randn(4, 6), torch.tensor([0, 1, 2, 0]), torch.tensor([2, 2, -1, 1])
    exported = torch.export.export(WithIds(model), (x, first)).module()
    for ids in (first, other):
        with cluster_ids(ids):
            expected = model(x)
        torch.testing.assert_close(exported(x, ids), expected)
