"""Optimizers by config, with the two readings of weight decay."""

from typing import Any

import torch
from torch import nn, optim

from cbnorm.config.schema import OptimizerConfig
from cbnorm.norms.base import is_norm


class DecoupledSGD(optim.SGD):
    """SGD whose weight decay shrinks the weights by ``lr * weight_decay`` before each step, as Keras does.

    The gradient, and with it the momentum, then knows nothing of the decay.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step; arguments and result are those of :class:`torch.optim.SGD`."""
        loss = None
        if closure is not None:
            # The gradients that it computes are those of the weights before they shrink.
            with torch.enable_grad():
                loss = closure()
        decays = [group["weight_decay"] for group in self.param_groups]
        for group, decay in zip(self.param_groups, decays, strict=True):
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.mul_(1 - group["lr"] * decay)
            group["weight_decay"] = 0.0
        try:
            super().step()
        finally:
            for group, decay in zip(self.param_groups, decays, strict=True):
                group["weight_decay"] = decay
        return loss


def create_optimizer(model: nn.Module, config: OptimizerConfig) -> optim.Optimizer:
    """The configured optimizer over a model's parameters.

    torch's AdamW multiplies weight decay by the learning rate; ``decay="absolute"`` undoes that, as in the
    library that the authors used (their 1e-4 then acts like 0.1 at rate 0.001). Adam and SGD add weight decay
    to the gradient, ``decoupled`` SGD to the weights. Unless ``decay_norms``, parameters of normalization
    layers do not decay: decay would pull a mixture's means, scales and priors towards values that mean
    something (a mean of zero, a variance of one), and only in some rows.
    """
    absolute = config.name == "adamw" and config.decay == "absolute"
    decay = config.weight_decay / config.lr if absolute else config.weight_decay
    norm_parameters = {
        parameter for module in model.modules() if is_norm(module) for parameter in module.parameters()
    }
    plain = [p for p in model.parameters() if p not in norm_parameters]
    norms = [p for p in model.parameters() if p in norm_parameters]
    groups = [
        {"params": plain, "weight_decay": decay},
        {"params": norms, "weight_decay": decay if config.decay_norms else 0.0},
    ]
    return _create([group for group in groups if group["params"]], config)


def _create(groups: list[dict[str, Any]], config: OptimizerConfig) -> optim.Optimizer:
    if config.name == "sgd":
        made = DecoupledSGD if config.decoupled else optim.SGD
        return made(groups, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov, fused=True)
    adam = optim.AdamW if config.name == "adamw" else optim.Adam
    return adam(groups, lr=config.lr, betas=(config.betas[0], config.betas[1]), eps=config.eps, fused=True)
