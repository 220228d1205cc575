"""The table of layers that the generic properties run over, and the independent reference."""

import importlib.util
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import pytest
import torch

from cbnorm.norms import apply_norm, create_norm
from cbnorm.norms.registry import option_names

K, C, N = 3, 4, 6


@dataclass(frozen=True)
class Case:
    """One row of the table: a layer by name with its options."""

    name: str
    options: dict = field(default_factory=dict)
    eval_sees_batch: bool = False

    def __str__(self):
        return "-".join([self.name, *(str(v) for k, v in self.options.items() if not k.startswith("num_"))])

    def make(self, channels=C, **more):
        torch.manual_seed(3)
        return scatter(create_norm(self.name, channels, **(self.options | more)))

    @property
    def count(self):
        """The option that holds K."""
        return next((key for key in self.options if key.startswith("num_")), None)


def scatter(layer):
    """Move parameters and statistics off their initial values, so that clusters differ."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.5 * torch.randn(parameter.shape, generator=generator))
        for name, buffer in layer.named_buffers():
            if name in ("running_mean", "mixture_means"):
                buffer.add_(0.5 * torch.randn(buffer.shape, generator=generator))
            elif name in ("running_var", "mixture_variances"):
                buffer.mul_(0.5 + torch.rand(buffer.shape, generator=generator))
    return layer


MIXTURE = (
    torch.tensor([0.5, 0.3, 0.2]),
    torch.linspace(-1.5, 1.5, K * C).reshape(K, C),
    torch.linspace(0.5, 2.0, K * C).reshape(K, C),
)
CLUSTERS, COMPONENTS = {"num_clusters": K}, {"num_components": K}
CASES = [
    Case("bn"),
    Case("mn", COMPONENTS),
    Case("mn", COMPONENTS | {"differentiate_tau": True, "affine": False}),
    Case("scb", CLUSTERS),
    Case("scb", CLUSTERS | {"convention": "released", "scale": "paper"}),
    Case("scb", CLUSTERS | {"unknown": "position", "scale": "paper"}),
    Case("scb_base", CLUSTERS),
    Case("scb_base", CLUSTERS | {"convention": "released"}),
    Case("ucb", COMPONENTS),
    Case("ucb", COMPONENTS | {"posterior": "joint"}),
    Case("ucb", COMPONENTS | {"train_stats": "params", "eval_stats": "params"}),
    Case("ucb", COMPONENTS | {"train_stats": "params", "posterior": "joint", "eval_stats": "params"}),
    Case("ucb", COMPONENTS | {"update": "moving_average"}),
    Case("ucb", COMPONENTS | {"update": "moving_average", "posterior": "joint", "affine": True}),
    Case("ucb", COMPONENTS | {"update": "moving_average_printed"}),
    Case("ucb", COMPONENTS | {"posterior": "joint", "temper": True}),
    Case("ucb", COMPONENTS | {"init": "first_batch"}),
    Case("ucb", COMPONENTS | {"init": "first_batch", "posterior": "joint", "update": "moving_average"}),
    Case("uan", COMPONENTS, eval_sees_batch=True),
    Case("mode", COMPONENTS),
    Case("conditional_bn", CLUSTERS),
    Case("cluster_bn", CLUSTERS),
    Case("cluster_bn", CLUSTERS | {"unknown": "position", "affine": True}),
    Case("cluster_bn", CLUSTERS | {"affine": True, "separate": True}),
]
BY_NAME = {str(case): case for case in CASES}
IDS = torch.tensor([0, 1, 2, 0, 1, 2])
MIXED_IDS = torch.tensor([0, 1, 2, -1, 1, -1])


def pytest_generate_tests(metafunc):
    """``case``: every layer; ``own``: all but torch's; ``clustered``, ``centring``, …: some."""
    own = [case for case in CASES if case.name != "bn"]
    for fixture, cases in (
        ("case", CASES),
        ("own", own),
        ("clustered", [case for case in own if "num_clusters" in case.options]),
        ("centring", [case for case in own if case.name in ("mn", "mode", "conditional_bn", "cluster_bn")]),
        ("averaging", [case for case in own if "momentum" in option_names(case.name)]),
        ("smooth", [case for case in CASES if case.name != "mn" or "differentiate_tau" in case.options]),
    ):
        if fixture in metafunc.fixturenames:
            metafunc.parametrize(fixture, cases, ids=str)


@pytest.fixture(autouse=True)
def _same_seed_in_every_order():
    """Layers without a seed start from the last one given to torch: another test's, unless it is this."""
    torch.manual_seed(0)


@pytest.fixture
def ids():
    return IDS.clone()


@pytest.fixture
def mixed_ids():
    return MIXED_IDS.clone()


@pytest.fixture
def draw():
    """Inputs with two modes, from a stream of their own."""

    def _draw(*shape, dtype=torch.float32, scale=1.0, seed=0):
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(shape, generator=generator, dtype=torch.float64)
        side = torch.randint(0, 2, (shape[0], *(1 for _ in shape[1:])), generator=generator)
        return ((noise + 2.0 * side - 1.0) * scale).to(dtype)

    return _draw


@pytest.fixture
def run():
    """Output and gradients of a layer for a fixed cotangent: name -> tensor, detached."""

    def _run(layer, x, clusters=None, channels=1):
        for parameter in layer.parameters():
            parameter.grad = None
        x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
        y = apply_norm(layer, x, clusters)
        generator = torch.Generator().manual_seed(11)
        cotangent = torch.randn(y.shape, generator=generator, dtype=torch.float64).to(y.dtype)
        y.backward(cotangent)
        grads = {n: p.grad.detach().clone() for n, p in layer.named_parameters() if p.grad is not None}
        return {"y": y.detach(), "x.grad": x.grad, "cotangent": cotangent, **grads}

    return _run


@pytest.fixture(scope="session")
def reference() -> ModuleType:
    """The float64 NumPy implementation, written from the equations alone."""
    path = Path(__file__).parent / "reference" / "reference.py"
    spec = importlib.util.spec_from_file_location("norms_reference", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def cases():
    return BY_NAME


@pytest.fixture(scope="session")
def given_mixture():
    return MIXTURE
