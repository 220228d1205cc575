"""The optional kernels compute what the plain definitions compute, and their absence changes nothing."""

import copy
import os
import shutil
import subprocess
import sys

import pytest
import torch

from cbnorm.norms import MixtureNorm, UCBNorm, apply_norm, forms, native
from cbnorm.norms.mixture import Components

needs_compiler = pytest.mark.skipif(native.library() is None, reason="the kernels cannot be built here")
SHAPES = [(5, 4), (6, 20, 3, 3), (3, 5, 130), (1, 17, 8, 8)]


@pytest.fixture
def kernels(monkeypatch):
    """Kernels for every size, or never."""

    def _kernels(*, on):
        monkeypatch.setattr(native, "SMALLEST", 0 if on else sys.maxsize)

    return _kernels


def layer_of(case, channels):
    """The case's layer for this many channels, without seeding by data, which magnifies rounding."""
    if case.name != "mn":
        return case.make(channels, **({"init": "spread"} if "init" in case.options else {}))
    generator = torch.Generator().manual_seed(0)
    mixture = (
        torch.tensor([0.5, 0.3, 0.2]),
        torch.randn(3, channels, generator=generator),
        0.5 + torch.rand(3, channels, generator=generator),
    )
    return MixtureNorm(channels, mixture=mixture, **case.options)


@needs_compiler
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
def test_kernels_agree_with_the_definitions(own, draw, run, kernels, shape, training, last):
    x, ids = draw(*shape), torch.arange(shape[0]) % 4 - 1
    if last:
        if len(shape) != 4:
            x = x.transpose(-1, 1).contiguous().transpose(-1, 1)
        else:
            x = x.to(memory_format=torch.channels_last)
    layers = [layer_of(own, shape[1]).train(training) for _ in range(2)]
    kernels(on=False)
    exact = layers[0].double()
    # The posterior of a whole sample sums a thousand log densities: rounding its input moves it by 1.4e-5.
    nearby = run(copy.deepcopy(exact), x.double() * (1 + torch.finfo(torch.float32).eps), ids)
    expected = run(exact, x.double(), ids)
    kernels(on=True)
    got = run(layers[1], x, ids)
    for name, value in expected.items():
        largest = value.abs().max().clamp_min(0.1)
        error = (got[name].double() - value).abs().max() / largest
        conditioning = (nearby[name] - value).abs().max() / largest
        assert error < 2e-5 + 2 * conditioning, f"{name}: {error:.1e} of the maximum"
    for name, buffer in exact.named_buffers():
        torch.testing.assert_close(layers[1].get_buffer(name).to(buffer), buffer, rtol=1e-5, atol=1e-5)


@needs_compiler
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_kernels_hide_no_value_that_is_not_finite(own, draw, kernels, mixed_ids, value):
    kernels(on=True)
    x = draw(6, 4, 20)
    layer = own.make()
    apply_norm(layer, x, mixed_ids)
    x[0, 2, 3] = value
    for training in (True, False):
        assert not torch.isfinite(apply_norm(copy.deepcopy(layer).train(training), x, mixed_ids)[0, 2, 3])


@needs_compiler
@pytest.mark.parametrize("scale", [1e-3, 1e4])
def test_kernels_stay_finite_far_away(own, draw, run, kernels, mixed_ids, scale):
    kernels(on=True)
    result = run(own.make(), draw(6, 4, 20, scale=scale), mixed_ids)
    assert all(torch.isfinite(tensor).all() for tensor in result.values())


def pairs_of_components(channels, distance):
    """A joint layer with two pairs of close components, the pairs about ``distance`` deviations apart."""
    generator = torch.Generator().manual_seed(0)
    middles = distance * torch.randn(2, channels, generator=generator).repeat_interleave(2, dim=0)
    near = torch.randn(4, channels, generator=generator) / channels**0.5
    widths = 1 + 0.01 * torch.rand(4, channels, generator=generator)
    mixture = (torch.full((4,), 0.25), middles + near, widths)
    return MixtureNorm(channels, 4, mixture=mixture, differentiate_tau=True)


@needs_compiler
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize(("distance", "deviation"), [(0, 10), (0, 100), (1, 30), (30, 1)])
def test_joint_kernels_keep_the_digits_far_from_their_components(
    kernels, draw, run, distance, deviation, last, training
):
    """Far from all components what they share is 10^4 times what tells them apart; or pairs are far apart."""
    layer = pairs_of_components(70, distance).train(training)
    pair = torch.arange(8)[:, None, None] % 2 * 2
    x = layer.mixture_means[pair, torch.arange(70)[:, None]] + draw(8, 70, 30, scale=deviation)
    x = x.transpose(1, 2).contiguous().transpose(1, 2) if last else x
    kernels(on=False)
    expected = run(copy.deepcopy(layer).double(), x.double())
    kernels(on=True)
    got = run(layer, x)
    for name, largest in (("y", 5e-6), ("x.grad", 3e-4)):
        error = (got[name].double() - expected[name]).norm() / expected[name].norm()
        assert error < largest, f"{name}: {error:.1e}"


@needs_compiler
@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
def test_a_component_far_away_has_no_share_instead_of_a_subnormal_one(draw, kernels, last):
    """Products with 1e-38 are subnormal, with which some processors take many times as long."""
    kernels(on=True)
    x = draw(4, 20, 3, 3).detach()
    x = x + 8 * (torch.arange(4) % 2).view(4, 1, 1, 1)
    x = x.to(memory_format=torch.channels_last if last else torch.contiguous_format).requires_grad_()
    mixture = (torch.ones(2), torch.tensor([0.0, 8.0])[:, None].expand(2, 20), torch.ones(2, 20))
    layer = MixtureNorm(20, num_components=2, mixture=mixture, affine=False)
    y = layer(x)
    node = y.grad_fn
    while not getattr(node, "saved_tensors", ()):
        node = node.next_functions[0][0]
    tau = next(t for t in node.saved_tensors if t is not None and t.numel() == 2 * 4 * 9)
    assert sorted(tau.tolist()) == [0.0] * 36 + [1.0] * 36
    y.square().sum().backward()
    for part in (y, x.grad):
        assert not ((part != 0) & (part.abs() < torch.finfo(torch.float32).tiny)).any()


@needs_compiler
def test_a_whole_number_as_eps_is_that_number(draw, run, kernels):
    kernels(on=True)
    x, layers = draw(6, 4, 9), [UCBNorm(4, 3, eps=eps) for eps in (1.0, 1, 2.0)]
    layers[2].eps = 1
    first, *others = (run(layer, x, None) for layer in layers)
    for other in others:
        assert all(torch.equal(other[name], value) for name, value in first.items())


@needs_compiler
def test_constant_responsibilities_carry_no_gradient_in_either_form(draw, kernels):
    generator = torch.Generator().manual_seed(0)
    start = (torch.tensor([0.5, 0.3, 0.2]).log(), torch.randn(3, 4, generator=generator), torch.ones(3, 4))
    given, found = (torch.zeros(3, 4), torch.ones(3, 4)), []
    for on in (False, True):
        kernels(on=on)
        x, *mixture = (value.clone().requires_grad_() for value in (draw(6, 4, 9), *start))
        y, _ = forms.normalize_batch(x, Components(*mixture), *given, 1e-5, joint=True, constant=True)
        y.pow(3).sum().backward()
        found.append([torch.zeros_like(v) if v.grad is None else v.grad for v in (x, *mixture)])
    for plain, fused in zip(*found, strict=True):
        torch.testing.assert_close(fused, plain, rtol=1e-4, atol=1e-4)


@needs_compiler
def test_second_derivatives_come_from_the_definitions(own, draw, kernels, mixed_ids):
    results = []
    for on in (False, True):
        kernels(on=on)
        layer = layer_of(own, 4)
        x = draw(6, 4, 9).requires_grad_()
        (first,) = torch.autograd.grad(apply_norm(layer, x, mixed_ids).pow(3).sum(), x, create_graph=True)
        results.append(torch.autograd.grad(first.square().sum(), (x, *layer.parameters()), allow_unused=True))
    for got, expected in zip(results[1], results[0], strict=True):
        if expected is not None and expected.abs().max() > 0:
            assert (got - expected).abs().max() / expected.abs().max() < 1e-3


@needs_compiler
def test_two_forwards_may_share_one_backward(own, draw, kernels, mixed_ids):
    kernels(on=True)
    layer, x = own.make(), draw(6, 4, 9).requires_grad_()
    sum(apply_norm(layer, x, mixed_ids).square().sum() for _ in range(2)).backward()
    assert torch.isfinite(x.grad).all()


@needs_compiler
@pytest.mark.parametrize("posterior", ["per_channel", "joint"])
def test_the_number_of_threads_changes_rounding_only(draw, run, kernels, posterior):
    kernels(on=True)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            layer = UCBNorm(20, 3, posterior=posterior)
            results.append([run(layer, draw(9, 20, 70)) for _ in range(2)])
    finally:
        torch.set_num_threads(before)
    for name, value in results[0][0].items():
        torch.testing.assert_close(results[1][0][name], value, rtol=1e-4, atol=1e-4)
        assert torch.equal(results[1][1][name], results[1][0][name]), "twice the same must be the same"


@needs_compiler
def test_gradients_that_are_views_are_understood(draw, kernels):
    """The gradient of a sum is one number seen everywhere."""
    kernels(on=True)
    for posterior in ("per_channel", "joint"):
        layer, x = UCBNorm(4, 2, posterior=posterior), draw(6, 4, 20).requires_grad_()
        layer(x).sum().backward()
        (2 * layer(x)).mean().backward()
        assert torch.isfinite(x.grad).all()


@pytest.mark.skipif(shutil.which("g++") is None, reason="no compiler here")
@pytest.mark.skipif(os.environ.get("CBNORM_NATIVE") == "0", reason="switched off")
def test_kernels_are_built_where_there_is_a_compiler():
    assert native.library() is not None


def test_everything_works_without_kernels():
    code = (
        "import torch\n"
        "from cbnorm.norms import UCBNorm, native\n"
        "x = torch.randn(64, 16, 8, 8, requires_grad=True)\n"
        "assert native.library() is None\n"
        "UCBNorm(16, 3)(x).sum().backward()\n"
        "assert torch.isfinite(x.grad).all()\n"
    )
    for switch in ({"CBNORM_NATIVE": "0"}, {"CXX": "/nowhere/c++"}):
        subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | switch)
