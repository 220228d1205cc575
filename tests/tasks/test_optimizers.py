"""Two readings of weight decay, and which parameters it touches."""

import pytest
import torch
from torch import nn

from cbnorm.config.compose import compose_run
from cbnorm.norms import create_norm
from cbnorm.tasks.optimizers import create_optimizer


def shrinkage(words: list[str], norm: str = "bn", **options: int) -> tuple[float, float]:
    """By which share one step without gradients shrinks a convolution's weights, and a norm layer's."""
    layer = create_norm(norm, 4, **options)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), layer)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1.0)
            parameter.grad = torch.zeros_like(parameter)
    create_optimizer(model, compose_run(words).optimizer).step()
    conv, norms = model[0].weight.detach(), next(layer.parameters()).detach()
    return 1 - conv.mean().item(), 1 - norms.mean().item()


def test_torch_multiplies_decay_by_the_rate() -> None:
    assert shrinkage(["optimizer.lr=0.01", "optimizer.weight_decay=0.1"])[0] == pytest.approx(1e-3, rel=1e-2)


@pytest.mark.parametrize("lr", [0.001, 0.005])
def test_absolute_decay_does_not_depend_on_the_rate(lr: float) -> None:
    words = [f"optimizer.lr={lr}", "optimizer.weight_decay=0.001", "optimizer.decay=absolute"]
    assert shrinkage(words)[0] == pytest.approx(1e-3, rel=1e-2)


def test_decoupled_decay_is_the_same_with_a_closure() -> None:
    """Lightning computes gradients inside of the step: they are of the weights before these shrink."""
    words = ["optimizer=sgd", "optimizer.lr=0.1", "optimizer.weight_decay=0.2", "optimizer.decoupled=true"]
    layers = [nn.Linear(3, 1) for _ in range(2)]
    layers[1].load_state_dict(layers[0].state_dict())
    x = torch.randn(8, 3)
    for layer, closes in zip(layers, (True, False), strict=True):
        optimizer = create_optimizer(layer, compose_run(words).optimizer)

        def closure(layer: nn.Module = layer, optimizer: torch.optim.Optimizer = optimizer) -> torch.Tensor:
            optimizer.zero_grad()
            loss: torch.Tensor = layer(x).square().mean()
            loss.backward()
            return loss

        for _ in range(3):
            if closes:
                assert torch.is_tensor(optimizer.step(closure))
            else:
                closure()
                optimizer.step()
    assert torch.equal(layers[0].weight, layers[1].weight)


@pytest.mark.parametrize(
    ("norm", "options"),
    {"bn": {}, "mn": {"num_components": 3}, "scb": {"num_clusters": 3}, "ucb": {"num_components": 3}}.items(),
)
def test_norm_layers_decay_only_when_told(norm: str, options: dict[str, int]) -> None:
    words = ["optimizer.lr=0.01", "optimizer.weight_decay=0.1"]
    assert shrinkage(words, norm, **options)[1] == 0
    assert shrinkage([*words, "optimizer.decay_norms=true"], norm, **options)[1] == pytest.approx(
        1e-3, rel=1e-2
    )


def test_adam_and_sgd_add_decay_to_the_gradient() -> None:
    """One step without gradients: SGD subtracts rate times decay (Nesterov 1.9 of it), Adam the rate."""
    sgd = ["optimizer=sgd", "optimizer.lr=0.01", "optimizer.weight_decay=0.1"]
    assert shrinkage(sgd)[0] == pytest.approx(1.9e-3, rel=1e-2)
    assert shrinkage([*sgd, "optimizer.nesterov=false"])[0] == pytest.approx(1e-3, rel=1e-2)
    adam = ["optimizer=adam", "optimizer.lr=0.01"]
    assert shrinkage([*adam, "optimizer.weight_decay=0.1"])[0] == pytest.approx(1e-2, rel=1e-2)
    assert shrinkage(adam)[0] == 0


def test_decoupled_decay_of_sgd_is_kerass() -> None:
    """Weights shrink by rate times decay, then move by Nesterov's momentum of the gradient alone."""
    words = ["optimizer=sgd", "optimizer.lr=0.1", "optimizer.weight_decay=0.2", "optimizer.decoupled=true"]
    layer = nn.Linear(3, 2, bias=False).double()
    weight, velocity = layer.weight.detach().clone(), torch.zeros(2, 3, dtype=torch.float64)
    optimizer = create_optimizer(layer, compose_run(words).optimizer)
    for _ in range(4):
        gradient = torch.randn(2, 3, dtype=torch.float64)
        layer.weight.grad = gradient.clone()
        optimizer.step()
        velocity = 0.9 * velocity - 0.1 * gradient
        weight = weight * (1 - 0.1 * 0.2) + 0.9 * velocity - 0.1 * gradient
        assert torch.allclose(layer.weight, weight, atol=1e-12)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.2]
