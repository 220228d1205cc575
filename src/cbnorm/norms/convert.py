"""Swap the batch normalization layers of an existing model."""

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cbnorm.norms.batch import BatchNorm
from cbnorm.norms.registry import create_norm, option_names

#: What computes batch normalization and nothing else.
_FORWARDS = {BatchNorm.forward, _BatchNorm.forward, nn.SyncBatchNorm.forward}
Where = str | Callable[[str, nn.Module], bool]


def convert_norm(
    model: nn.Module, name: str, *, where: Where = "first", **options: Any
) -> dict[str, nn.Module]:
    """Replace batch normalization layers of ``model``, in place, by the layer called ``name``.

    Device, dtype, training mode, place of the channels, eps and momentum are kept (unless given in
    ``options``), and so are gamma and beta where the new layer has them: copied to each cluster for
    ``conditional_bn``. A momentum of None, torch's cumulative average, becomes the new layer's own unless it
    is ``bn``. Running statistics are not kept: they are moments of one component, and the new layers have K.
    Frozen gamma and beta stay frozen; without them before there are none after, but in ``conditional_bn``
    (a layer with gamma alone gets a beta that stays zero).
    What is one layer at several places stays one. Layers that need cluster ids find them in
    :func:`cbnorm.norms.cluster_ids`.

    Args:
        model: Any module that contains BatchNorm layers (SyncBatchNorm too).
        name: As for :func:`cbnorm.norms.create_norm`.
        where: ``"first"`` in the order of ``model.named_modules()``; ``"all"``; another string is a regular
            expression searched for in the qualified name (``"layer1.*bn1"``); a callable gets the qualified
            name and the layer and says whether to replace it.
        **options: Of the new layer, for instance ``num_clusters=3``.

    Returns:
        The new layers by qualified name, one that has several under each.

    Raises:
        ValueError: Nothing to replace, or ``model`` itself is a BatchNorm layer; a chosen layer computes more
            than batch normalization, carries hooks or parametrizations, which would be lost, has not seen its
            first batch (lazy ones), or has its channels in the last dimension, which the new one can't;
            ``where`` is no regular expression.
        TypeError: As :func:`cbnorm.norms.create_norm`; ``where`` is neither text nor callable.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
        >>> convert_norm(model, "ucb", num_components=3)
        {'1': UCBNorm(8, num_components=3, ...)}
    """
    modules = model.named_modules(remove_duplicate=False)
    layers = {path: layer for path, layer in modules if isinstance(layer, _BatchNorm)}
    if "" in layers:
        raise ValueError("the model itself is a BatchNorm layer; make its replacement with create_norm")
    chosen = _choose(layers, where)
    for path, old in chosen.items():
        _check_plain(path, old)
    # All are made before any is swapped, so that a refused option leaves the model whole.
    new: dict[int, nn.Module] = {}
    for old in chosen.values():
        if id(old) not in new:
            new[id(old)] = _replacement(old, name, options, _state(old, model))
    replacements = {path: new[id(old)] for path, old in layers.items() if id(old) in new}
    for path, layer in replacements.items():
        parent, _, child = path.rpartition(".")
        setattr(model.get_submodule(parent), child, layer)
    return replacements


def _choose(layers: dict[str, _BatchNorm], where: Where) -> dict[str, _BatchNorm]:
    if where == "first":
        chosen = dict(list(layers.items())[:1])
    elif where == "all":
        chosen = layers
    elif isinstance(where, str):
        chosen = {path: layer for path, layer in layers.items() if _pattern(where).search(path)}
    elif not callable(where):
        raise TypeError(f"where must be 'first', 'all', a regular expression or a callable, not {where!r}")
    else:
        chosen = {path: layer for path, layer in layers.items() if where(path, layer)}
    if not chosen:
        found = ", ".join(list(layers)[:8]) or "none"
        raise ValueError(f"no BatchNorm layer matches where={where!r}; the model has: {found}")
    return chosen


def _pattern(where: str) -> re.Pattern[str]:
    try:
        return re.compile(where)
    except re.error as error:
        raise ValueError(
            f"where={where!r} is no regular expression: {error} (any text is '.*', a dot is '\\.')"
        ) from error


def _check_plain(path: str, layer: _BatchNorm) -> None:
    kind = type(layer).__name__
    own_call = type(layer).__call__ is not nn.Module.__call__
    if type(layer).forward not in _FORWARDS or "forward" in vars(layer) or own_call:
        raise ValueError(
            f"{path} is a {kind}, whose forward may do more than batch normalization: leave it out with "
            "where=, or replace it by hand"
        )
    if not layer.num_features:
        raise ValueError(f"{path} is a {kind} that has seen no batch: let one pass through the model first")
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    if any(getattr(layer, name, None) for name in hooks) or hasattr(layer, "parametrizations"):
        raise ValueError(
            f"{path} has hooks or parametrizations (such as pruning's), which would be lost: remove them "
            "first, or leave it out with where="
        )


def _state(layer: _BatchNorm, model: nn.Module) -> Tensor:
    """A tensor with the layer's device and type; the model's, where the layer has none of its own."""
    own = (layer.weight, layer.running_mean, *model.parameters(), *model.buffers())
    return next((t for t in own if t is not None and t.is_floating_point()), torch.zeros(()))


def _replacement(layer: _BatchNorm, name: str, options: dict[str, Any], state: Tensor) -> nn.Module:
    known = option_names(name) if name != "none" else {}
    kept = {"eps": layer.eps, "momentum": layer.momentum, "device": state.device, "dtype": state.dtype}
    kept["track_running_stats"] = layer.track_running_stats
    if not layer.affine:
        kept["affine"] = False
    if isinstance(layer, BatchNorm):
        kept["channel_dim"] = layer.channel_dim
        if layer.channel_dim != 1 and "channel_dim" not in known and name != "none":
            raise ValueError(f"'{name}' takes channels in dimension 1 only, the layer has them in the last")
    if layer.momentum is None and name != "bn":
        del kept["momentum"]
    if options.get("convention") == "released":
        del kept["eps"]  # it is added to the deviation there, not to the variance
    inherited = {option: value for option, value in kept.items() if option in known}
    if "num_features" in options:
        raise TypeError("the number of channels is that of each layer: leave num_features out")
    new = create_norm(name, layer.num_features, **(inherited | options))
    if "device" not in known:
        new.to(state.device, state.dtype)
    for parameter in ("weight", "bias"):
        _copy_affine(getattr(new, parameter, None), getattr(layer, parameter))
    beta = getattr(new, "bias", None)
    # torch's types know no gamma without beta.
    if layer.affine and getattr(layer, "bias", None) is None and isinstance(beta, nn.Parameter):
        beta.requires_grad = False
    return new.train(layer.training)


@torch.no_grad()
def _copy_affine(new: Tensor | None, old: Tensor | None) -> None:
    if isinstance(new, nn.Parameter) and old is not None and new.shape[-1:] == old.shape:
        new.copy_(old.expand_as(new))
        new.requires_grad_(old.requires_grad)
