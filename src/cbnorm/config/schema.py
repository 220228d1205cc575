"""Typed schema of every config group. One place says which keys exist, their types and their ranges."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Percent = Annotated[int, Field(gt=0, le=100)]


class Group(BaseModel):
    """Base of all groups: unknown keys and silent conversions are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class AugmentationConfig(Group):
    """Random changes of training images (section IV-B names none; the authors' code does)."""

    flip: bool
    rotation: Annotated[float, Field(ge=0, le=180)]
    zoom: Fraction


class DatasetConfig(Group):
    """Which images, how many of them, and the split into training and validation."""

    name: str
    image_size: Positive
    train_images: Positive | None
    val_images: Positive
    test_images: Positive | None
    split_seed: Annotated[int, Field(ge=0)]
    augmentation: AugmentationConfig


class ModelConfig(Group):
    """The network, and which of its norm layers are replaced (1 is the first)."""

    name: str
    placement: list[Positive]


class PartitionConfig(Group):
    """How every image gets the id of a cluster."""

    name: Literal["none", "random", "kmeans", "gmm"]
    clusters: Positive
    features: Literal["none", "raw", "standardised", "pca64", "mean_rgb"]


class NormConfig(Group):
    """The layer that is put in place; `NORM_OPTIONS` says which options each norm reads."""

    name: Literal["none", "bn", "mn", "scb", "scb_base", "ucb"]
    components: Positive
    eps: Annotated[float, Field(gt=0)]
    momentum: Annotated[float, Field(gt=0, le=1)]
    affine: bool
    convention: Literal["paper", "released"]
    scale: Literal["paper", "consistent"]
    unknown: Literal["sample", "position"]
    update: Literal["weight", "moving_average"]
    train_stats: Literal["batch", "params"]
    eval_stats: Literal["running", "params", "batch"]
    posterior: Literal["per_channel", "joint"]


class OptimizerConfig(Group):
    """The optimizer. `decay: absolute` means weight decay that is not multiplied by the rate."""

    name: Literal["adamw"]
    lr: Annotated[float, Field(gt=0)]
    weight_decay: Annotated[float, Field(ge=0)]
    decay: Literal["times_lr", "absolute"]
    decay_norms: bool
    betas: Annotated[list[Fraction], Field(min_length=2, max_length=2)]
    eps: Annotated[float, Field(gt=0)]


class TrainerConfig(Group):
    """Epochs, batches, precision, and when the test set is read."""

    max_epochs: Positive
    batch_size: Positive
    precision: Literal["bf16", "fp32"]
    channels_last: bool
    threads: Positive
    moments: Annotated[list[Percent], Field(min_length=1)]
    accelerator: Literal["auto", "cpu", "gpu"]
    device: Annotated[int, Field(ge=0)]


class TaskConfig(Group):
    """What is learned."""

    name: Literal["classification"]


class LoggerConfig(Group):
    """Where the run is logged besides its record and history."""

    name: Literal["csv", "wandb"]
    project: str


class SCBPreset(Group):
    """What a protocol says about SCB-Norm."""

    scale: Literal["paper", "consistent"]


class UCBPreset(Group):
    """What a protocol says about UCB-Norm."""

    update: Literal["weight", "moving_average"]
    train_stats: Literal["batch", "params"]
    eval_stats: Literal["running", "params", "batch"]
    posterior: Literal["per_channel", "joint"]


class Presets(Group):
    """Values that norms take over from the protocol."""

    scb: SCBPreset
    ucb: UCBPreset


class RunConfig(Group):
    """Everything that one run is told."""

    dataset: DatasetConfig
    model: ModelConfig
    partition: PartitionConfig
    norm: NormConfig
    optimizer: OptimizerConfig
    trainer: TrainerConfig
    task: TaskConfig
    logger: LoggerConfig
    presets: Presets
    seed: Annotated[int, Field(ge=0)]
    store: str
    protocol: str
    budget: str
    experiment: str | None


#: Which options of :class:`NormConfig` each norm reads; the rest is dropped from a run's identity.
NORM_OPTIONS: dict[str, tuple[str, ...]] = {
    "none": (),
    "bn": ("eps", "momentum", "affine"),
    "mn": ("components", "eps", "momentum", "affine"),
    "scb": ("eps", "convention", "scale", "unknown"),
    "scb_base": ("eps", "convention", "scale", "unknown"),
    "ucb": ("components", "eps", "momentum", "update", "train_stats", "eval_stats", "posterior"),
}

#: Norms that need the cluster of every image.
CLUSTERED_NORMS = frozenset({"scb", "scb_base"})
