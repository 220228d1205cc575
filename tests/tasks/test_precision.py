"""bfloat16 means the same products and roundings on every processor; sums may be in another order."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cbnorm import machine
from cbnorm.config.compose import compose_run
from cbnorm.data.views import Views
from cbnorm.models.dcgan import LATENT
from cbnorm.runs import provenance
from cbnorm.tasks import precision
from cbnorm.tasks.adamatch import AdaMatch
from cbnorm.tasks.classification import Classification
from cbnorm.tasks.gan import Adversaries, Gan
from cbnorm.tasks.kept import principal_components
from cbnorm.tasks.precision import forward_precision

CPU = torch.device("cpu")
#: Half the distance of bfloat16 numbers, relatively.
ROUNDING = 2**-8

LAYERS = {
    "conv": (lambda: nn.Conv2d(5, 7, 3, padding=1), (2, 5, 6, 6)),
    "conv of one dimension": (lambda: nn.Conv1d(5, 7, 3), (2, 5, 9)),
    "transposed conv": (lambda: nn.ConvTranspose2d(5, 7, 4, stride=2), (2, 5, 6, 6)),
    "linear": (lambda: nn.Linear(5, 7, bias=False), (4, 5)),
}


@pytest.fixture
def without_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "computes_bfloat16", lambda: False)


def digits(tensor: torch.Tensor) -> torch.Tensor:
    """In float64, with bfloat16's digits."""
    return tensor.detach().bfloat16().double()


@pytest.mark.usefixtures("without_units")
@pytest.mark.parametrize("name", LAYERS)
def test_values_and_gradients_are_those_of_rounded_operands_rounded_once(name: str) -> None:
    torch.manual_seed(0)
    make, shape = LAYERS[name]
    layer, x = make(), torch.randn(shape, requires_grad=True)
    with forward_precision(CPU, bf16=True):
        y = layer(x)
    cotangent = torch.randn(y.shape).bfloat16()
    y.backward(cotangent)

    exact = make().double()
    with torch.no_grad():
        for ours, theirs in zip(layer.parameters(), exact.parameters(), strict=True):
            theirs.copy_(digits(ours))
    wide = digits(x).requires_grad_()
    expected = exact(wide)
    expected.backward(cotangent.double())

    assert y.dtype == torch.bfloat16
    pairs = [(y.double(), expected), (x.grad, wide.grad)]
    pairs += [(a.grad, b.grad) for a, b in zip(layer.parameters(), exact.parameters(), strict=True)]
    for got, value in pairs:
        assert got is not None
        assert value is not None
        assert torch.equal(got, got.bfloat16().to(got.dtype))
        torch.testing.assert_close(got.double(), value, rtol=1.01 * ROUNDING, atol=1e-6)


@pytest.mark.usefixtures("without_units")
def test_attention_and_products_are_lowered_with_them() -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 4, 8, 16)
    with forward_precision(CPU, bf16=True):
        products = q @ k.mT, torch.matmul(q, k.mT), q.matmul(k.mT)
        attended = F.scaled_dot_product_attention(q, k, v)
    exact = digits(q) @ digits(k).mT
    for product in products:
        torch.testing.assert_close(product.double(), exact, rtol=1.01 * ROUNDING, atol=1e-5)
    assert product.dtype == attended.dtype == torch.bfloat16
    expected = F.scaled_dot_product_attention(digits(q), digits(k), digits(v))
    torch.testing.assert_close(attended.double(), expected, rtol=4 * ROUNDING, atol=1e-4)


@pytest.mark.usefixtures("without_units")
def test_nothing_else_is_touched() -> None:
    torch.manual_seed(0)
    x, ids, layer = torch.randn(4, 5), torch.tensor([3, 1, 4, 1]), nn.Linear(5, 7)
    with forward_precision(CPU, bf16=True):
        with torch.autocast("cpu", enabled=False):
            outside = layer(x), x @ x.mT
        assert (x + 1).dtype == torch.float32
        assert torch.equal(ids @ ids, (ids * ids).sum())
        assert (x.double() @ x.double().mT).dtype == torch.float64
    with forward_precision(CPU, bf16=False):
        assert torch.equal(layer(x), outside[0])
    assert torch.equal(x @ x.mT, outside[1])
    assert torch.equal(layer(x), outside[0])


def test_both_ways_give_what_autocast_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layer, x = nn.Conv2d(5, 7, 3, padding=1), torch.randn(2, 5, 6, 6)
    found = []
    for units in (True, False):
        monkeypatch.setattr(precision, "computes_bfloat16", lambda units=units: units)
        with forward_precision(CPU, bf16=True):
            found.append(layer(x))
    with torch.autocast("cpu", torch.bfloat16):
        expected = layer(x)
    assert torch.equal(found[0], expected)
    torch.testing.assert_close(found[1], expected, rtol=2 * ROUNDING * 1.01, atol=1e-6)


class Watched(nn.Module):
    """A linear layer of flat images that notes for every pass whether its operands were rounded."""

    def __init__(self, outputs: int, shape: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.layer, self.shape = nn.LazyLinear(outputs), shape
        self.rounded: list[bool] = []

    def forward(self, images: torch.Tensor, clusters: torch.Tensor | None = None) -> torch.Tensor:
        return self.features(images, clusters)

    def features(self, images: torch.Tensor, clusters: torch.Tensor | None = None) -> torch.Tensor:
        before = ROUNDED.count
        y = self.layer(images.flatten(1)).unflatten(1, self.shape or (-1,))
        self.rounded.append(ROUNDED.count > before)
        return y


class Counted:
    """What rounds operands, counted."""

    count = 0

    def __call__(self, value: object) -> object:
        self.count += 1
        return ROUND(value)


ROUND = precision._rounded
ROUNDED = Counted()


def classified() -> list[bool]:
    net = Watched(10)
    Classification(net, compose_run([]).optimizer, bf16=True)(torch.randn(2, 3, 4, 4))
    return net.rounded


def kept() -> list[bool]:
    net, images, zeros = Watched(5), torch.randn(4, 3, 4, 4), torch.zeros(4, dtype=torch.long)
    principal_components(
        Classification(net, compose_run([]).optimizer, bf16=True), [(images, zeros, zeros)], 2
    )
    return net.rounded


def adapted(second_forward: str) -> list[bool]:
    config = compose_run(["experiment=table6_usps", f"task.second_forward={second_forward}"])
    net = Watched(4)
    net(torch.randn(2, 3, 4, 4))
    net.rounded.clear()
    task = AdaMatch(
        net, config.optimizer, config.task, num_classes=4, epochs=1, steps=2, clustered=False, bf16=True
    )
    source, target = torch.rand(2, 6, 3, 4, 4), torch.rand(2, 18, 3, 4, 4)
    task.losses(Views(source[0], source[1], torch.arange(6) % 4, target[0], target[1]))
    return net.rounded


def forged() -> list[bool]:
    generator, discriminator = Watched(48, (3, 4, 4)), Watched(1)
    judge = nn.Sequential(discriminator, nn.Flatten(0))
    judge(generator(torch.randn(2, LATENT)))
    task = Gan(Adversaries(generator, judge), compose_run(["task=gan"]).optimizer, bf16=True)
    optimizers = task.configure_optimizers()
    task.all_optimizers = lambda: optimizers
    task.manual_backward = lambda loss, **options: loss.backward(**options)
    generator.rounded.clear()
    discriminator.rounded.clear()
    task.training_step((torch.randn(4, 3, 4, 4), torch.zeros(4), torch.zeros(4)), 0)
    return generator.rounded + discriminator.rounded


@pytest.mark.parametrize("units", [True, False])
@pytest.mark.parametrize(
    ("passes", "number"),
    [
        (classified, 1),
        (kept, 1),
        (lambda: adapted("source"), 2),
        (lambda: adapted("inference"), 2),
        (forged, 3),
    ],
)
def test_every_pass_of_every_task_computes_as_the_processor_asks(
    passes: Callable[[], list[bool]], number: int, units: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "computes_bfloat16", lambda: units)
    monkeypatch.setattr(precision, "_rounded", ROUNDED)
    assert passes() == [not units] * number


@pytest.mark.parametrize(
    ("device", "units", "told"),
    [("cpu", True, "native"), ("cpu", False, "rounded float32"), ("meta", False, "native")],
)
def test_records_say_how_bfloat16_was_computed(device, units, told, monkeypatch) -> None:
    monkeypatch.setattr(provenance, "computes_bfloat16", lambda: units)
    assert provenance.hardware(torch.device(device))["bfloat16"] == told


@pytest.mark.parametrize(
    ("cpuinfo", "units"),
    [
        ("vendor_id\t: AuthenticAMD\nflags\t\t: fpu avx512f avx512_bf16 amd_lbr", True),
        ("vendor_id\t: GenuineIntel\nflags\t\t: fpu avx512f avx512_bf16 amx_bf16", True),
        ("vendor_id\t: GenuineIntel\nflags\t\t: fpu avx512f avx512_bf16", False),
        ("vendor_id\t: AuthenticAMD\nflags\t\t: fpu avx2", False),
        ("processor\t: 0\nFeatures\t: fp asimd bf16 i8mm", True),
        ("processor\t: 0\nFeatures\t: fp asimd", False),
        (None, False),
    ],
)
def test_units_are_known_by_their_flags(cpuinfo, units, tmp_path, monkeypatch) -> None:
    path = tmp_path / "cpuinfo"
    if cpuinfo is not None:
        path.write_text(f"{cpuinfo}\n\n{cpuinfo}\n", encoding="utf8")
    monkeypatch.setattr(machine, "_CPUS", path)
    assert machine.computes_bfloat16.__wrapped__() is units
