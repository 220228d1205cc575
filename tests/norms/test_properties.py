"""One list of properties for the whole table of layers (conftest.CASES)."""

import copy
import pickle

import pytest
import torch

from cbnorm.norms import apply_norm, takes_clusters

SHAPES = [(6, 4), (6, 4, 5), (6, 4, 3, 2), (6, 4, 2, 2, 2)]


def settled(layer, x, clusters):
    """The layer after one training batch, as in the middle of a run."""
    layer.train()
    apply_norm(layer, x, clusters)
    return layer


def assert_same(got, expected, **tolerance):
    assert got.keys() == expected.keys()
    for name in got:
        torch.testing.assert_close(got[name], expected[name], **tolerance, msg=lambda m, n=name: f"{n}: {m}")


# ---- layouts


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_keeps_shape_and_type_and_gives_finite_gradients(case, draw, run, mixed_ids, shape, training):
    layer = settled(case.make(), draw(*shape), mixed_ids).train(training)
    result = run(layer, draw(*shape, seed=1), mixed_ids)
    assert result["y"].shape == shape
    assert result["y"].dtype == torch.float32
    assert all(torch.isfinite(tensor).all() for tensor in result.values())


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_channels_last_changes_nothing_and_is_kept(case, draw, run, mixed_ids, training):
    x = draw(6, 4, 3, 2, dtype=torch.float64)
    first, second = (settled(case.make().double(), x, mixed_ids).train(training) for _ in range(2))
    contiguous = run(first, x, mixed_ids)
    last = run(second, x.to(memory_format=torch.channels_last), mixed_ids)
    assert last["y"].is_contiguous(memory_format=torch.channels_last)
    assert last["x.grad"].is_contiguous(memory_format=torch.channels_last)
    assert_same(last, contiguous, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_tokens_are_images_seen_otherwise(case, draw, mixed_ids, training):
    x = draw(6, 4, 5, dtype=torch.float64)
    plain = settled(case.make().double(), x, mixed_ids).train(training)
    token = settled(case.make(channel_dim=-1).double(), x.transpose(1, 2).contiguous(), mixed_ids)
    token.train(training)
    got = apply_norm(token, x.transpose(1, 2).contiguous(), mixed_ids)
    torch.testing.assert_close(got.transpose(1, 2), apply_norm(plain, x, mixed_ids), rtol=1e-10, atol=1e-10)


def test_only_the_number_of_positions_matters(case, draw, mixed_ids):
    x = draw(6, 4, 3, 2, dtype=torch.float64)
    image = apply_norm(case.make().double(), x, mixed_ids)
    line = apply_norm(case.make().double(), x.flatten(2), mixed_ids)
    torch.testing.assert_close(image.flatten(2), line, rtol=1e-12, atol=1e-12)


def test_order_of_samples_does_not_matter(case, draw, mixed_ids):
    x = draw(6, 4, 3, 2, dtype=torch.float64)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    layer = settled(case.make().double(), x, mixed_ids)
    twin = copy.deepcopy(layer)
    got = apply_norm(twin, x[order], mixed_ids[order])
    torch.testing.assert_close(got, apply_norm(layer, x, mixed_ids)[order], rtol=1e-9, atol=1e-9)


# ---- precision


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_half_precision_input_is_normalized_in_float32(own, draw, mixed_ids, dtype, training):
    x = draw(6, 4, 5, dtype=dtype)
    low, full = (settled(own.make(), x.float(), mixed_ids).train(training) for _ in range(2))
    got, expected = apply_norm(low, x, mixed_ids), apply_norm(full, x.float(), mixed_ids)
    assert got.dtype == dtype
    assert torch.equal(got, expected.to(dtype))
    for name, buffer in low.named_buffers():
        assert torch.equal(buffer, full.get_buffer(name)), name


def test_autocast_does_not_touch_the_statistics(own, draw, mixed_ids):
    x = draw(6, 4, 5)
    expected = apply_norm(own.make(), x, mixed_ids)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = apply_norm(own.make(), x, mixed_ids)
    assert torch.equal(got, expected)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_float32_agrees_with_float64(case, draw, run, mixed_ids, training):
    x = draw(6, 4, 5, dtype=torch.float64).float()
    single = settled(case.make(), x, mixed_ids)
    double = copy.deepcopy(single).double().train(training)
    low, high = run(single.train(training), x, mixed_ids), run(double, x.double(), mixed_ids)
    for name, value in high.items():
        error = (low[name].double() - value).abs().max() / value.abs().max().clamp_min(1e-3)
        assert error < 2e-5, f"{name}: {error:.1e} of the maximum"


# ---- edges of the domain


def test_an_empty_batch_gives_an_empty_output_and_teaches_nothing(own, draw):
    layer = own.make()
    for seed in range(3):
        settled(layer, draw(6, 4, 5, seed=seed), torch.tensor([0, 1, 2, 0, 1, 2]))
    before = copy.deepcopy(layer.state_dict())
    y = apply_norm(layer, torch.zeros(0, 4, 5), torch.zeros(0, dtype=torch.long))
    assert y.shape == (0, 4, 5)
    assert_same(dict(layer.state_dict()), dict(before), rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(1, 4), (1, 4, 1, 1), (2, 4, 1), (1, 4, 6)], ids=str)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_one_sample_or_position_is_enough(own, draw, run, shape, training):
    ids = torch.tensor([1, -1])[: shape[0]]
    result = run(own.make().train(training), draw(*shape), ids)
    assert all(torch.isfinite(tensor).all() for tensor in result.values())


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_one_cluster_or_component_is_enough(own, draw, run, training):
    options = dict.fromkeys([own.count], 1)
    result = run(own.make(**options).train(training), draw(6, 4, 5), torch.tensor([0, 0, 0, -1, 0, 0]))
    assert all(torch.isfinite(tensor).all() for tensor in result.values())


@pytest.mark.parametrize("level", [0.0, 1.0, -3e3, 1e4])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_constant_input_stays_finite(own, run, mixed_ids, level, training):
    result = run(own.make().train(training), torch.full((6, 4, 5), level), mixed_ids)
    assert all(torch.isfinite(tensor).all() for tensor in result.values())


@pytest.mark.parametrize("scale", [1e-4, 1e2, 1e4])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_inputs_from_tiny_to_ten_thousand_stay_finite(own, draw, run, mixed_ids, scale, training):
    result = run(own.make().train(training), draw(6, 4, 5, scale=scale), mixed_ids)
    assert all(torch.isfinite(tensor).all() for tensor in result.values())


def test_a_large_offset_costs_few_digits(centring, draw, mixed_ids):
    """With x around 1e4 a variance as mean of squares minus square of mean would be noise."""
    x = draw(6, 4, 50) + 1e4
    single, double = centring.make(), centring.make().double()
    got, expected = apply_norm(single, x, mixed_ids), apply_norm(double, x.double(), mixed_ids)
    assert (got.double() - expected).abs().max() / expected.abs().max() < 5e-3


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_values_that_are_not_finite_are_never_hidden(own, draw, mixed_ids, value, training):
    x = draw(6, 4, 5)
    layer = settled(own.make(), x, mixed_ids).train(training)
    x[0, 2, 3] = value
    assert not torch.isfinite(apply_norm(layer, x, mixed_ids)[0, 2, 3])


# ---- state


def test_a_restored_layer_continues_bit_for_bit(case, draw, run, mixed_ids):
    layer = settled(case.make(), draw(6, 4, 5), mixed_ids)
    torch.manual_seed(1234)
    fresh = case.make(**({"seed": 99} if case.name in ("mn", "mode") else {}))
    fresh.load_state_dict(layer.state_dict())
    for seed in (1, 2):
        torch.manual_seed(seed)
        x = draw(6, 4, 5, seed=seed)
        assert_same(run(fresh, x, mixed_ids), run(layer, x, mixed_ids), rtol=0, atol=0)
    assert_same(dict(fresh.state_dict()), dict(layer.state_dict()), rtol=0, atol=0)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies_are_equal_and_independent(case, draw, run, mixed_ids, duplicate):
    layer = settled(case.make(), draw(6, 4, 5), mixed_ids)
    before = copy.deepcopy(layer.state_dict())
    twin = duplicate(layer)
    first = run(twin, draw(6, 4, 5, seed=1), mixed_ids)
    assert_same(dict(layer.state_dict()), dict(before), rtol=0, atol=0)
    assert_same(first, run(layer, draw(6, 4, 5, seed=1), mixed_ids), rtol=0, atol=0)


def test_the_global_random_stream_is_neither_read_nor_moved(own, draw, mixed_ids):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    layer = own.make(**({"seed": 0} if own.name != "conditional_bn" and own.name != "cluster_bn" else {}))
    torch.set_rng_state(state)
    first = apply_norm(copy.deepcopy(layer), draw(6, 4, 5), mixed_ids)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    assert torch.equal(first, apply_norm(layer, draw(6, 4, 5), mixed_ids))


def test_evaluation_does_not_see_the_other_samples(case, draw, mixed_ids):
    x = draw(6, 4, 5, dtype=torch.float64)
    layer = settled(case.make().double(), x, mixed_ids).eval()
    together = apply_norm(layer, x, mixed_ids)
    alone = torch.cat([apply_norm(layer, x[n : n + 1], mixed_ids[n : n + 1]) for n in range(6)])
    same = torch.allclose(together, alone, rtol=1e-10, atol=1e-10)
    assert same is not case.eval_sees_batch


def test_evaluation_changes_no_state(case, draw, mixed_ids):
    layer = settled(case.make(), draw(6, 4, 5), mixed_ids).eval()
    before = copy.deepcopy(layer.state_dict())
    apply_norm(layer, draw(6, 4, 5, seed=1), mixed_ids)
    assert_same(dict(layer.state_dict()), dict(before), rtol=0, atol=0)


def test_every_parameter_gets_a_gradient(case, draw, run, mixed_ids):
    layer = case.make()
    result = run(layer, draw(6, 4, 5), mixed_ids)
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, name
        assert result[name].abs().sum() > 0, name


def test_running_statistics_carry_no_gradient(case, draw, mixed_ids):
    layer = case.make()
    apply_norm(layer, draw(6, 4, 5).requires_grad_(), mixed_ids)
    assert not any(buffer.requires_grad for buffer in layer.buffers())


def test_two_forwards_may_share_one_backward(case, draw, mixed_ids):
    """As with two views of an image: statistics learned from the second must not spoil the first."""
    layer = settled(case.make(), draw(6, 4, 5), mixed_ids)
    first, second = draw(6, 4, 5, seed=1).requires_grad_(), draw(6, 4, 5, seed=2)
    twin = copy.deepcopy(layer)
    (alone,) = torch.autograd.grad(apply_norm(twin, first, mixed_ids).square().sum(), first)
    outputs = [apply_norm(layer, x, mixed_ids).square().sum() for x in (first, second)]
    (together,) = torch.autograd.grad(sum(outputs), first)
    assert torch.equal(alone, together)


# ---- calculus


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_gradients_agree_with_finite_differences(smooth, draw, mixed_ids, training):
    """Every layer but MN with its tau held constant, which the reference is asked about instead."""
    layer = settled(smooth.make().double(), draw(6, 4, 3, dtype=torch.float64), mixed_ids).train(training)
    names = [name for name, _ in layer.named_parameters()]
    # The layer learns from every forward it sees, finite differences must not.
    state = {name: buffer.clone() for name, buffer in layer.named_buffers()}
    if smooth.name == "mn":
        layer.fitted = layer.fitted and not training

    def function(x, *parameters):
        given = dict(zip(names, parameters, strict=True)) | {k: v.clone() for k, v in state.items()}
        arguments = (x, mixed_ids) if takes_clusters(layer) else (x,)
        return torch.func.functional_call(layer, given, arguments)

    x = draw(6, 4, 3, dtype=torch.float64, seed=1).requires_grad_()
    inputs = (x, *(p.detach().clone().requires_grad_() for p in layer.parameters()))
    assert torch.autograd.gradcheck(function, inputs, atol=1e-6, rtol=1e-4)


def test_second_derivatives_exist(case, draw, mixed_ids):
    layer = settled(case.make().double(), draw(6, 4, 3, dtype=torch.float64), mixed_ids)
    x = draw(6, 4, 3, dtype=torch.float64, seed=1).requires_grad_()
    (first,) = torch.autograd.grad(apply_norm(layer, x, mixed_ids).pow(3).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), x)
    assert torch.isfinite(second).all()
    assert second.abs().sum() > 0


# ---- compilers


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_compiles_to_one_graph(case, draw, run, mixed_ids, training):
    torch.compiler.reset()
    layer = settled(case.make(), draw(6, 4, 5), mixed_ids).train(training)
    compiled = torch.compile(copy.deepcopy(layer), fullgraph=True, backend="aot_eager")
    for seed in (1, 2):
        x = draw(6, 4, 5, seed=seed)
        clusters = (mixed_ids,) if takes_clusters(layer) else ()
        got = compiled(x, *clusters)
        torch.testing.assert_close(got, apply_norm(layer, x, *clusters), rtol=1e-4, atol=1e-5)


def test_exports_in_evaluation(case, draw, mixed_ids):
    layer = settled(case.make(), draw(6, 4, 5), mixed_ids).eval()
    arguments = (draw(6, 4, 5), *((mixed_ids,) if takes_clusters(layer) else ()))
    exported = torch.export.export(layer, arguments).module()
    torch.testing.assert_close(exported(*arguments), layer(*arguments), rtol=1e-4, atol=1e-5)


# ---- refusals


def test_wrong_inputs_are_refused_in_one_line(own, draw, ids):
    layer = own.make()
    for bad, error, word in (
        (draw(6, 5, 3), ValueError, "expects 4 channels"),
        (draw(6), ValueError, "expects 4 channels"),
        (torch.ones(6, 4, dtype=torch.int64), TypeError, "floating-point"),
        (draw(6, 4, dtype=torch.float64), TypeError, "float64"),
        (torch.zeros(6, 4, device="meta"), ValueError, "meta"),
    ):
        with pytest.raises(error, match=word) as caught:
            apply_norm(layer, bad, ids)
        assert "\n" not in str(caught.value)


def test_wrong_cluster_ids_are_refused_in_one_line(clustered, draw, ids):
    for bad, error, word in (
        (ids[:4], ValueError, r"shape \(6,\)"),
        (ids.unsqueeze(1), ValueError, r"shape \(6,\)"),
        (ids.float(), TypeError, "integer"),
        (ids + 1, ValueError, r"id 3 is outside \[-1, 3\)"),
        (ids - 2, ValueError, r"id -2 is outside"),
        (ids.to("meta"), ValueError, "meta"),
    ):
        with pytest.raises(error, match=word) as caught:
            clustered.make()(draw(6, 4), bad)
        assert "\n" not in str(caught.value)
