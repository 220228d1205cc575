"""From the options of a config to the arguments of layers and networks, our own and of other packages."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from torch import nn

from cbnorm import plugins
from cbnorm.config.choices import is_own, needs_clusters
from cbnorm.config.options import MODEL_OPTIONS, NORM_OPTIONS
from cbnorm.config.schema import ModelConfig, NormConfig
from cbnorm.errors import CbnormError
from cbnorm.models import MODELS
from cbnorm.norms import create_norm, takes_clusters

_RENAMED = {"components": "num_components", "groups": "num_groups"}


def norm_arguments(norm: NormConfig) -> dict[str, Any]:
    """What a norm's layers are given by name, besides the number of clusters.

    Raises:
        CbnormError: Another package's has no such option, or lacks one.
    """
    if is_own("norm", norm.name):
        return {_RENAMED.get(key, key): getattr(norm, key) for key in NORM_OPTIONS[norm.name]}
    given = ["num_clusters"] if needs_clusters(norm.name) else []
    _check("norm", norm.name, norm.options, given, positional=1)
    return dict(norm.options)


def make_norm(name: str, num_features: int, arguments: Mapping[str, Any]) -> nn.Module:
    """A norm's layer.

    Raises:
        CbnormError: It takes clusters although its package declares otherwise, or the other way round.
    """
    layer = create_norm(name, num_features, **arguments)
    clustered = needs_clusters(name)
    if not is_own("norm", name) and takes_clusters(layer) != clustered:
        plugin = plugins.find("norm", name)
        raise CbnormError(
            f"{plugin} is declared under {plugin.entry.group}, but takes_clusters is {not clustered}"
        )
    return layer


def model_arguments(model: ModelConfig) -> dict[str, Any]:
    """What a network is given by name, besides the size of the images."""
    if not is_own("model", model.name):
        return dict(model.options)
    return {key: getattr(model, key) for key in MODEL_OPTIONS[model.name]}


def model_factory(model: ModelConfig) -> Callable[..., nn.Module]:
    """What makes a network from ``(num_classes, norm, placement, *, image_size, **arguments)``.

    Raises:
        CbnormError: Another package's has no such option, or lacks one.
    """
    if is_own("model", model.name):
        return MODELS[model.name]
    _check("model", model.name, model.options, ["image_size"], positional=3)
    factory: Callable[..., nn.Module] = plugins.load("model", model.name)
    return factory


def _check(
    kind: str, name: str, options: Mapping[str, Any], given: Collection[str], *, positional: int
) -> None:
    problem = plugins.misfit(plugins.load(kind, name), options, given=given, positional=positional)
    if problem:
        raise CbnormError(f"{kind}={name} (package {plugins.find(kind, name).package}) {problem}")
