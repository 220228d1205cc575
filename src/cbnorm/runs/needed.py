"""Which runs others are read with. Imports no torch."""

from cbnorm.config.readings import needs_guesses
from cbnorm.config.schema import RunConfig


def group_classifier(config: RunConfig) -> RunConfig:
    """The run that learns the groups for another run: the same network without the layer under study.

    Images, split, augmentation, optimizer, epochs and seed are those of the other run; what is learned is the
    attribute ``task.group`` in place of the class. Runs that differ in the norm alone share it.
    """
    task = config.task.model_copy(update={"labels": config.task.group, "group": None, "readings": []})
    parts = {
        "task": task.model_copy(update={"components": 0}),
        "norm": config.norm.model_copy(update={"name": "none"}),
        "partition": config.partition.model_copy(update={"name": "none", "withheld": False}),
        "model": config.model.model_copy(update={"placement": []}),
        "trainer": config.trainer.model_copy(update={"rollback": False}),
        "logger": config.logger.model_copy(update={"name": "csv"}),
    }
    return config.model_copy(update=parts)


def needed(config: RunConfig) -> list[RunConfig]:
    """The runs that must have ended before this one can be read."""
    return [group_classifier(config)] if needs_guesses(config) else []
