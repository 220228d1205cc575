"""Learning rates over a run, as pure functions of the step, so that a resumed run needs no state of them."""

import math

from torch import optim

from cbnorm.config.schema import OptimizerConfig


def rate_factor(config: OptimizerConfig, step: int, steps: int) -> float:
    """What the learning rate is multiplied by at a step.

    Args:
        config: ``schedule`` is constant; or steps: times ``factor`` from every milestone on, a share of all
            steps; or cosine: half a cosine from 1 down to ``factor``; or pieces: 1, then from each milestone
            on the multiple that belongs to it.
        step: Steps done before this one, from 0.
        steps: Steps of the whole run.

    Raises:
        ValueError: A step outside the run.
    """
    if not 0 <= step < steps:
        raise ValueError(f"step {step} is not one of {steps}")
    if config.schedule == "steps":
        passed = sum(step >= share * steps for share in config.milestones)
        return math.pow(config.factor, passed)
    if config.schedule == "pieces":
        passed = sum(step >= share * steps for share in config.milestones)
        return [1.0, *config.multiples][passed]
    if config.schedule == "cosine":
        return config.factor + (1 - config.factor) * 0.5 * (1 + math.cos(math.pi * step / steps))
    return 1.0


def set_rate(optimizer: optim.Optimizer, rate: float) -> None:
    """Give every group of an optimizer a learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate
