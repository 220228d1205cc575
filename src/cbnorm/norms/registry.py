"""Layers by name: ``create_norm("scb", 64, num_clusters=3)``."""

import inspect
import math
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from cbnorm import plugins
from cbnorm.norms.base import check_common, check_count
from cbnorm.norms.batch import BatchNorm
from cbnorm.norms.conditional import ClusterBatchNorm, ConditionalBatchNorm
from cbnorm.norms.mn import MixtureNorm
from cbnorm.norms.mode import ModeNorm
from cbnorm.norms.scb import SCBNorm
from cbnorm.norms.scb_base import SCBNormBase
from cbnorm.norms.ucb import UCBNorm
from cbnorm.spelling import guess


def _identity(num_features: int) -> nn.Identity:  # noqa: ARG001  (every factory takes it)
    """No normalization."""
    return nn.Identity()


def _uan(num_features: int, num_components: int, **options: Any) -> UCBNorm:
    """UAN, the predecessor of UCB-Norm: batch statistics in evaluation too."""
    return UCBNorm(num_features, num_components, eval_stats="batch", **options)


def _layer(
    num_features: int, *, eps: float = 1e-5, affine: bool = True, device: Any = None, dtype: Any = None
) -> nn.GroupNorm:
    """Layer normalization as in the paper: over channels and positions of one sample."""
    num_features, eps, _ = check_common(num_features, eps, 1)
    return nn.GroupNorm(1, num_features, eps=eps, affine=affine, device=device, dtype=dtype)


def _instance(
    num_features: int, *, eps: float = 1e-5, affine: bool = False, device: Any = None, dtype: Any = None
) -> nn.GroupNorm:
    """Instance normalization: over the positions of one channel of one sample."""
    num_features, eps, _ = check_common(num_features, eps, 1)
    return nn.GroupNorm(num_features, num_features, eps=eps, affine=affine, device=device, dtype=dtype)


def _group(
    num_features: int,
    *,
    num_groups: int | None = None,
    eps: float = 1e-5,
    affine: bool = True,
    device: Any = None,
    dtype: Any = None,
) -> nn.GroupNorm:
    """Group normalization; 32 groups, or as many as divide 32 and the channels both.

    Where the channels are a power of two up to 32 that is one channel each: instance normalization.
    """
    num_features, eps, _ = check_common(num_features, eps, 1)
    groups = math.gcd(32, num_features) if num_groups is None else check_count("num_groups", num_groups)
    return nn.GroupNorm(groups, num_features, eps=eps, affine=affine, device=device, dtype=dtype)


#: Every layer by its name; each value is called with ``(num_features, **options)``.
NORMS: dict[str, Callable[..., nn.Module]] = {
    "none": _identity,
    "bn": BatchNorm,
    "mn": MixtureNorm,
    "scb": SCBNorm,
    "scb_base": SCBNormBase,
    "ucb": UCBNorm,
    "uan": _uan,
    "mode": ModeNorm,
    "conditional_bn": ConditionalBatchNorm,
    "cluster_bn": ClusterBatchNorm,
    "ln": _layer,
    "in": _instance,
    "gn": _group,
}


def create_norm(name: str, num_features: int, **options: Any) -> nn.Module:
    """Make the normalization layer called ``name``.

    Args:
        name: A key of :data:`NORMS`, or what another package declares (docs/extend.md).
        num_features: Number of channels C.
        **options: Of the layer, for instance ``num_clusters=3``.

    Returns:
        The layer.

    Raises:
        ValueError: No layer has this name, or the package that declares it can't be imported.
        TypeError: The layer has no such option, or a necessary one is missing.

    Example:
        >>> create_norm("scb", 64, num_clusters=3)
        SCBNorm(64, num_clusters=3, eps=1e-05, convention=paper, scale=consistent, unknown=sample)
        >>> create_norm("sbc", 64)
        Traceback (most recent call last):
        ValueError: no normalization layer is called 'sbc'; did you mean 'scb'? There are: none, bn, ...
    """
    if name in NORMS:
        _check_options(name, options)
        return NORMS[name](num_features, **options)
    factory = _foreign(name)
    if problem := plugins.misfit(factory, options, positional=1):
        raise TypeError(f"{name!r} {problem}")
    layer = factory(num_features, **options)
    # Tells a normalization layer of another package from the other layers of a network.
    vars(layer)["norm_name"] = name
    return layer


def _foreign(name: str) -> Callable[..., nn.Module]:
    """What makes the layer that another package calls ``name``."""
    others = plugins.names("norm")
    if name not in others:
        known = [*NORMS, *others]
        raise ValueError(
            f"no normalization layer is called {name!r}{_nearest(name, known)} There are: {', '.join(known)}"
        )
    factory: Callable[..., nn.Module] = plugins.load("norm", name)
    return factory


def _check_options(name: str, options: dict[str, Any]) -> None:
    known = option_names(name)
    for option in options:
        if option not in known:
            raise TypeError(
                f"{name!r} has no option {option!r}{_nearest(option, list(known))} "
                f"It takes: {', '.join(known) or 'none'}"
            )
    missing = [option for option, needed in known.items() if needed and option not in options]
    if missing:
        raise TypeError(f"{name!r} needs the option {missing[0]!r}, for instance {missing[0]}=3")


def option_names(name: str) -> dict[str, bool]:
    """The options of the layer called ``name``, each with whether it is necessary."""
    if name not in NORMS:
        return plugins.keywords(_foreign(name), positional=1)[0]
    parameters = dict(inspect.signature(NORMS[name]).parameters)
    if name == "uan":
        inherited = inspect.signature(UCBNorm).parameters
        parameters = {key: value for key, value in inherited.items() if key != "eval_stats"}
    return {
        key: parameter.default is inspect.Parameter.empty
        for key, parameter in parameters.items()
        if key not in ("self", "num_features")
    }


def _nearest(word: str, choices: list[str]) -> str:
    question = guess(word, choices)
    return f"; {question}" if question else "."


def takes_clusters(layer: nn.Module) -> bool:
    """Whether ``layer`` is called with cluster ids as its second argument."""
    return bool(getattr(layer, "takes_clusters", False))


def apply_norm(layer: nn.Module, x: Tensor, clusters: Tensor | None = None) -> Tensor:
    """Call ``layer`` on ``x``, with the cluster ids if it takes them.

    Args:
        layer: Any normalization layer.
        x: Its input.
        clusters: Ids (N,), -1 for unknown; None when there are none.

    Returns:
        The layer's output.
    """
    if takes_clusters(layer):
        output: Tensor = layer(x, clusters)
        return output
    plain: Tensor = layer(x)
    return plain
