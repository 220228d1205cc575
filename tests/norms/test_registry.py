"""Layers by name, with refusals that name the nearest valid choice."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from cbnorm.norms import NORMS, apply_norm, create_norm, takes_clusters
from cbnorm.norms.registry import option_names


def needed(name):
    return {option: 3 for option, necessary in option_names(name).items() if necessary}


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("shape", [(6, 8), (6, 8, 5), (6, 8, 4, 4)], ids=str)
def test_every_name_makes_a_layer_for_every_rank(name, shape):
    layer = create_norm(name, 8, **needed(name))
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    assert apply_norm(layer, x, torch.zeros(6, dtype=torch.long)).shape == shape


def test_which_layers_take_clusters():
    taking = {name for name in NORMS if takes_clusters(create_norm(name, 8, **needed(name)))}
    assert taking == {"scb", "scb_base", "conditional_bn", "cluster_bn"}


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("sbc", {}, ValueError, r"no normalization layer is called 'sbc'; did you mean 'scb'\?"),
        ("scb", {"num_cluster": 3}, TypeError, r"no option 'num_cluster'; did you mean 'num_clusters'\?"),
        ("scb", {}, TypeError, "needs the option 'num_clusters'"),
        ("none", {"eps": 1e-3}, TypeError, "'none' has no option 'eps'"),
        ("uan", {"num_components": 3, "eval_stats": "params"}, TypeError, "'uan' has no option 'eval_stats'"),
        ("ucb", {"num_components": 3, "update": "weights"}, ValueError, "update must be one of weight, mov"),
        ("ucb", {"num_components": 3, "temper": True}, ValueError, "temper=True needs posterior='joint'"),
        ("ucb", {"num_components": 0}, ValueError, "num_components must be an integer of at least 1"),
        ("scb", {"num_clusters": 3, "eps": 0.0}, ValueError, "eps must be positive"),
        ("mn", {"num_components": 3, "momentum": 1.5}, ValueError, r"momentum must lie in \[0, 1\]"),
        ("mode", {"num_components": 3, "channel_dim": 2}, ValueError, "channel_dim must be 1 or -1"),
    ],
)
def test_refusals_are_one_line_that_names_the_way_out(name, options, error, message):
    with pytest.raises(error, match=message) as caught:
        create_norm(name, 8, **options)
    assert "\n" not in str(caught.value)


def test_uan_is_ucb_with_batch_statistics_in_evaluation():
    uan, ucb = create_norm("uan", 4, num_components=2), create_norm("ucb", 4, num_components=2)
    x = torch.randn(16, 4, generator=torch.Generator().manual_seed(0)) * 3 + 2
    assert torch.equal(uan.eval()(x), ucb.train()(x))


def test_the_papers_layer_norm_is_over_channels_and_positions():
    x = torch.randn(4, 8, 3, 3, generator=torch.Generator().manual_seed(0))
    expected = nn.functional.layer_norm(x, x.shape[1:])
    torch.testing.assert_close(create_norm("ln", 8)(x), expected, rtol=1e-4, atol=1e-5)
    expected = nn.functional.instance_norm(x)
    torch.testing.assert_close(create_norm("in", 8)(x), expected, rtol=1e-4, atol=1e-5)


def test_the_library_part_imports_nothing_but_torch():
    code = (
        "import sys, cbnorm.norms, cbnorm.mixtures\n"
        "others = {'torchvision', 'lightning', 'hydra', 'sklearn', 'pandas', 'wandb', 'matplotlib'}\n"
        "assert not others & set(sys.modules), others & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
