"""bfloat16 means the same products and roundings on every processor; sums may be in another order."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cbnorm import machine
from cbnorm.config.compose import compose_run
from cbnorm.models.shallow_cnn import ShallowCNN
from cbnorm.tasks import precision
from cbnorm.tasks.classification import Classification
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


@pytest.mark.parametrize("units", [True, False])
def test_classifiers_compute_as_the_processor_asks(units: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    lowered: list[object] = []
    monkeypatch.setattr(precision, "computes_bfloat16", lambda: units)
    rounded = precision._rounded
    monkeypatch.setattr(precision, "_rounded", lambda value: lowered.append(value) or rounded(value))
    task = Classification(ShallowCNN(10, nn.BatchNorm2d), compose_run([]).optimizer, bf16=True)
    assert task(torch.randn(2, 3, 32, 32)).dtype == torch.float32
    assert bool(lowered) is not units


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
