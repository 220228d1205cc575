"""ReLU overwrites what batch normalization gave, and nothing that anybody still needs."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cbnorm.models.preactivation import NormReluConv
from cbnorm.norms import create_norm

NORMS = {
    "bn": lambda: nn.BatchNorm2d(4),
    "none": nn.Identity,
    "ucb": lambda: create_norm("ucb", 4, num_components=2),
    "ln": lambda: create_norm("ln", 4),
}


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("training", [True, False])
def test_values_and_gradients_are_those_of_three_operations(name: str, training: bool) -> None:
    torch.manual_seed(0)
    norm, conv = NORMS[name](), nn.Conv2d(4, 3, 3, padding=1)
    layer = NormReluConv(norm, conv).train(training)
    given = torch.randn(5, 4, 6, 6)
    state = {key: value.clone() for key, value in layer.state_dict().items()}
    results = []
    for apply in (layer, lambda x: conv(F.relu(norm(x)))):
        layer.load_state_dict(state)
        x = given.clone().requires_grad_()
        # Others read the input too, as a dense block does.
        y = torch.cat([x, apply(x)], 1)
        y.square().sum().backward()
        assert torch.equal(x.detach(), given)
        results.append((y.detach(), x.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_a_hook_on_a_norm_sees_its_output_in_evaluation() -> None:
    seen = []
    layer = NormReluConv(nn.BatchNorm2d(4), nn.Conv2d(4, 3, 3)).eval()
    layer.norm.register_forward_hook(lambda *parts: seen.append(parts[2]))
    layer(torch.randn(2, 4, 6, 6))
    assert seen[0].min() < 0
