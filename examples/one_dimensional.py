"""What BN, MN and UCB do to numbers from a mixture: ``python examples/one_dimensional.py [picture.png]``.

A walk-through for students, in one dimension, where everything can be drawn. Read the functions from top
to bottom with the picture beside you:

1. Data: 60 % of the numbers come from a narrow bell around -2, 40 % from a wide one around 3.
2. Batch normalization subtracts one mean and divides by one deviation. The result has mean 0 and variance 1,
   and it is the same two bells on another ruler: a straight line cannot make one bell out of two.
3. Mixture normalization first asks, for every number, which bell it came from (the responsibilities), then
   measures each bell and normalizes by it. Both bells land on zero. The factor 1/sqrt(prior) of the paper
   then makes the variance K = 2 instead of 1: rare components are stretched.
4. UCB-Norm carries the mixture inside the layer. Here it follows the data by moving averages; the picture
   shows where its components stood before the first batch and after the last. With the mixture found, it
   is the same map as MN.
"""

import argparse
import math
from pathlib import Path

import torch
from torch import Tensor

from cbnorm.norms import BatchNorm, MixtureNorm, UCBNorm

SHARES, CENTRES, WIDTHS = torch.tensor([0.6, 0.4]), torch.tensor([-2.0, 3.0]), torch.tensor([0.5, 1.0])
LAYERS = ("BN", "MN", "UCB")
COLOURS = {"BN": "tab:gray", "MN": "tab:blue", "UCB": "tab:red"}


def draw_batch(count: int, generator: torch.Generator) -> Tensor:
    """Numbers from the mixture, as a batch with one channel, (count, 1)."""
    component = torch.multinomial(SHARES, count, replacement=True, generator=generator)
    return (CENTRES[component] + WIDTHS[component] * torch.randn(count, generator=generator)).unsqueeze(1)


def fit_layers(batches: int, count: int) -> dict[str, torch.nn.Module]:
    """The three layers, each having seen the same batches, ready to be evaluated."""
    layers = {
        "BN": BatchNorm(1, affine=False),
        "MN": MixtureNorm(1, num_components=2, affine=False, seed=0),
        "UCB": UCBNorm(1, num_components=2, update="moving_average"),
    }
    generator = torch.Generator().manual_seed(0)
    for _ in range(batches):
        batch = draw_batch(count, generator)
        for layer in layers.values():
            layer(batch)
    return {name: layer.eval() for name, layer in layers.items()}


def bells(x: Tensor, shares: Tensor, centres: Tensor, widths: Tensor) -> Tensor:
    """Densities of the components at ``x`` times their shares, (K, len(x))."""
    z = (x - centres[:, None]) / widths[:, None]
    return shares[:, None] * torch.exp(-0.5 * z**2) / (widths[:, None] * math.sqrt(2 * math.pi))


def picture(layers: dict[str, torch.nn.Module], data: Tensor, path: Path) -> None:
    """Data with the components, the three maps, and the three outputs."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplot_mosaic(
        [["data", "map", "map"], list(LAYERS)], figsize=(12, 7), layout="constrained"
    )
    x = torch.linspace(-5, 7, 601)
    axes["data"].hist(data.flatten().numpy(), bins=80, density=True, color="0.85", label="data")
    before, after = UCBNorm(1, num_components=2, update="moving_average"), layers["UCB"]
    for layer, style, label in ((before, ":", "UCB before"), (after, "-", "UCB after")):
        state = layer.running_prior, layer.running_mean[:, 0], layer.running_var[:, 0].sqrt()
        for index, density in enumerate(bells(x, *state)):
            axes["data"].plot(x, density, style, color="tab:red", label=None if index else label)
    axes["data"].set_title("1 · two bells, and UCB's components")
    axes["data"].legend()
    for name in LAYERS:
        y, style = layers[name](x[:, None]).flatten(), "--" if name == "UCB" else "-"
        axes["map"].plot(x, y, style, color=COLOURS[name], label=name, linewidth=2)
    for centre in CENTRES:
        axes["map"].axvline(centre, color="0.8", linewidth=0.8)
    axes["map"].axhline(0, color="0.8", linewidth=0.8)
    axes["map"].set(
        title="the map from input to output: BN is a line, MN and UCB have one line a bell", xlabel="input"
    )
    axes["map"].legend()
    for number, name in enumerate(LAYERS, start=2):
        output = layers[name](data).flatten()
        axes[name].hist(output.numpy(), bins=80, range=(-6, 6), density=True, color=COLOURS[name], alpha=0.7)
        grid = torch.linspace(-6, 6, 301)
        width = output.std(correction=0)
        axes[name].plot(
            grid, bells(grid, torch.ones(1), output.mean()[None], width[None])[0], "k--", linewidth=1
        )
        axes[name].set_title(f"{number} · {name}: mean {output.mean():.2f}, variance {output.var():.2f}")
    figure.savefig(path, dpi=110)
    plt.close(figure)


@torch.no_grad()
def walk_through(path: Path, batches: int = 150, count: int = 1024) -> dict[str, tuple[float, float]]:
    """Fit, draw, and return mean and variance of each layer's output."""
    layers = fit_layers(batches, count)
    data = draw_batch(20_000, torch.Generator().manual_seed(1))
    picture(layers, data, path)
    outputs = {name: layer(data) for name, layer in layers.items()}
    return {name: (output.mean().item(), output.var().item()) for name, output in outputs.items()}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", type=Path, nargs="?", default=Path("one_dimensional.png"))
    arguments = parser.parse_args()
    for name, (mean, variance) in walk_through(arguments.picture).items():
        print(f"{name:4} mean {mean:5.2f}  variance {variance:4.2f}")
    print(f"see {arguments.picture}")


if __name__ == "__main__":
    main()
