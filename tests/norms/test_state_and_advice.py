"""State that comes from elsewhere or doesn't fit its type, and what a refused input is told."""

import copy
from pathlib import Path

import pytest
import torch

from cbnorm.norms import MixtureNorm, UCBNorm, apply_norm, create_norm

C = 4


@pytest.mark.parametrize(
    "make",
    [
        lambda K: MixtureNorm(C, K),
        lambda K: UCBNorm(C, K, init="first_batch"),
        lambda K: UCBNorm(C, K, init="first_batch", update="moving_average"),
    ],
)
@pytest.mark.parametrize("strict", [True, False])
def test_what_fits_of_another_number_of_components_is_no_mixture(make: object, strict: bool) -> None:
    assert callable(make)
    old, new, fresh = make(2), make(3), make(3)
    x = 0.3 * torch.randn(300, C) + torch.tensor([-4.0, 0.0, 4.0]).repeat(100)[:, None]
    old(x)
    known = new.state_dict()
    state = old.state_dict()
    if strict:
        with pytest.raises(RuntimeError, match="size mismatch"):
            new.load_state_dict(state)
    else:
        fitting = {name: value for name, value in state.items() if value.shape == known[name].shape}
        new.load_state_dict(fitting | {"seed": known["seed"]} if "seed" in known else fitting, strict=False)
    assert int(new.seeded) == 0
    assert torch.equal(new(x), fresh(x))
    assert int(new.seeded) == 1


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("conditional_bn", {"num_clusters": 2}),
        ("cluster_bn", {"num_clusters": 2}),
        ("mode", {"num_components": 1}),
        ("ucb", {"num_components": 1}),
        ("mn", {"num_components": 1}),
    ],
)
@pytest.mark.parametrize("size", [200.0, 300.0, 1000.0])
def test_variances_that_float16_can_t_hold_spoil_nothing(
    name: str, options: dict[str, int], size: float
) -> None:
    torch.manual_seed(0)
    layer, x = create_norm(name, C, **options).half(), (size * torch.randn(64, C)).half()
    for _ in range(3):
        trained = apply_norm(
            layer, x, torch.zeros(64, dtype=torch.long) if "num_clusters" in options else None
        )
        assert trained.isfinite().all()
    # The variance of one batch enters with a tenth; at 200 nothing is cut off.
    moved = {200.0: (1 - 0.9**3) * size**2}.get(size)
    if moved and name not in {"mn", "cluster_bn"}:
        assert layer.running_var.float().mean().item() == pytest.approx(moved, rel=0.2)
    assert all(buffer.isfinite().all() for buffer in layer.buffers())
    assert apply_norm(layer.eval(), x).isfinite().all()


@pytest.mark.parametrize("update", ["moving_average", "moving_average_printed"])
def test_layers_that_torch_func_has_seen_can_be_copied_and_saved(update: str, tmp_path: Path) -> None:
    layer, x = UCBNorm(C, 2, update=update), torch.randn(8, C)

    def total(x: torch.Tensor) -> torch.Tensor:
        buffers = {name: buffer.clone() for name, buffer in layer.named_buffers()}
        total: torch.Tensor = torch.func.functional_call(layer, buffers, (x,)).sum()
        return total

    torch.func.grad(total)(x)
    torch.save(layer, tmp_path / "layer.pt")
    restored = torch.load(tmp_path / "layer.pt", weights_only=False)
    expected = copy.deepcopy(layer)(x)
    assert torch.equal(restored(x), expected)
    assert torch.equal(layer(x), expected)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda scb: scb(torch.randn(2, C), [0, 1]), TypeError, "got list; torch.as_tensor makes one"),
        (lambda scb: scb(torch.randn(2, C), torch.ones(2, 3)), TypeError, "only scb_base takes weights"),
        (lambda scb: scb(torch.randn(2, C), torch.ones(2)), TypeError, "got torch.float32; .long"),
        (lambda scb: scb(None), TypeError, "got NoneType; convert it with torch.as_tensor"),
        (lambda scb: scb(torch.randn(2, C + 1)), ValueError, r"shape \(2, 5\)$"),
        (lambda scb: scb(torch.randn(2, 6, C)), ValueError, "pass channel_dim=-1$"),
    ],
)
def test_what_is_refused_comes_with_advice_that_helps(call: object, kind: type, message: str) -> None:
    assert callable(call)
    with pytest.raises(kind, match=message):
        call(create_norm("scb", C, num_clusters=3))


def test_channels_in_the_other_place_are_told_either_way() -> None:
    with pytest.raises(ValueError, match=r"for \(N, C, T\) pass channel_dim=1$"):
        UCBNorm(C, 2, channel_dim=-1)(torch.randn(2, C, 7))
