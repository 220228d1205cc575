"""Typed schema of every config group: which keys exist, their types and their ranges.

Which of them each choice reads is in :mod:`cbnorm.config.options`.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

Positive = Annotated[int, Field(gt=0)]
NotNegative = Annotated[int, Field(ge=0)]
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
    shift: Fraction = 0.0
    shear: Annotated[float, Field(ge=0, lt=90)] = 0.0
    fill: Literal["reflect", "nearest"] = "reflect"
    crop: NotNegative = 0


class DatasetConfig(Group):
    """Which images, how many of them, the split into training and validation, and their preprocessing."""

    name: str
    folder: str | None = None
    image_size: Positive
    train_images: Positive | None
    val_images: Positive
    test_images: Positive | None
    split: Literal["stratified", "last"]
    split_seed: Annotated[int, Field(ge=0)]
    folds: Annotated[int, Field(ge=2)] | None = None
    fold: NotNegative | None = 0
    statistics: Literal["train", "imagenet", "none"]
    augmentation: AugmentationConfig


class ModelConfig(Group):
    """The network; `placement` says which of its norm layers are replaced (1 is the first, 0 the image).

    `MODEL_OPTIONS` says which options each model reads.
    """

    name: str
    placement: list[NotNegative]
    bn_eps: Annotated[float, Field(gt=0)]
    bn_momentum: Annotated[float, Field(gt=0, le=1)]
    last_kernel: Literal[3, 5]
    head: Literal["pool", "flatten"]
    depth: Positive
    variant: Literal["bc", "plain"]
    stem_width: Positive
    dropout: Fraction
    bookkeeping: Literal["paper", "released"]
    init: Literal["he", "glorot"]
    ln_eps: Annotated[float, Field(gt=0)]
    rescale: bool
    activation: Literal["leaky_relu", "relu"]
    options: dict[str, JsonValue] = Field(default_factory=dict)


class PartitionConfig(Group):
    """How every image gets the id of a cluster."""

    name: Literal[
        "none",
        "random",
        "kmeans",
        "gmm",
        "mn_components",
        "superclass",
        "species",
        "domain",
        "attribute",
        "label",
        "file",
    ]
    clusters: Positive | None
    features: Literal["none", "raw", "standardised", "pca64", "mean_rgb", "activations"]
    test: Literal["predict", "refit"]
    withheld: bool = False
    attribute: str | None
    file: str | None
    run: Annotated[str, Field(pattern="^[0-9a-f]{12}$")] | None
    layer: Positive | None
    seed: Annotated[int, Field(ge=0)] | None


class NormConfig(Group):
    """The layer that is put in place; `NORM_OPTIONS` says which options each norm reads."""

    name: str
    components: Positive
    groups: Positive | None
    eps: Annotated[float, Field(gt=0)]
    momentum: Annotated[float, Field(gt=0, le=1)]
    affine: bool
    separate: bool
    convention: Literal["paper", "released"]
    scale: Literal["paper", "consistent"]
    unknown: Literal["sample", "position"]
    update: Literal["weight", "moving_average", "moving_average_printed"]
    train_stats: Literal["batch", "params"]
    eval_stats: Literal["running", "params", "batch"]
    posterior: Literal["per_channel", "joint"]
    temper: bool
    init: Literal["spread", "first_batch"]
    options: dict[str, JsonValue] = Field(default_factory=dict)


class OptimizerConfig(Group):
    """The optimizer, its rate's schedule, and two readings of weight decay.

    `OPTIMIZER_OPTIONS` and `SCHEDULE_OPTIONS` say which options each reads.
    """

    name: Literal["adamw", "adam", "sgd"]
    lr: Annotated[float, Field(gt=0)]
    weight_decay: Annotated[float, Field(ge=0)]
    decay: Literal["times_lr", "absolute"]
    decay_norms: bool
    betas: Annotated[list[Fraction], Field(min_length=2, max_length=2)]
    eps: Annotated[float, Field(gt=0)]
    momentum: Fraction
    nesterov: bool
    schedule: Literal["constant", "steps", "cosine", "pieces"]
    milestones: list[Annotated[float, Field(gt=0, lt=1)]]
    factor: Fraction
    multiples: list[Annotated[float, Field(gt=0)]]
    decoupled: bool


class TrainerConfig(Group):
    """Epochs, batches, precision, and when the test set is read."""

    max_epochs: Positive
    batch_size: Positive
    precision: Literal["bf16", "fp32"]
    channels_last: bool
    threads: Annotated[int, Field(gt=0, le=1024)]
    moments: Annotated[list[Percent], Field(min_length=1)]
    rollback: bool
    patience: Positive | None = None
    accelerator: Literal["auto", "cpu", "gpu"]
    device: Annotated[int, Field(ge=0)]
    engine: Literal["auto", "lightning", "loop"] = "auto"
    keep: Literal["best", "moments"] = "best"


class TaskConfig(Group):
    """What is learned; `TASK_OPTIONS` says which options each task reads."""

    name: Literal["classification", "gan", "adamatch"]
    test_curve: bool
    confident: bool
    labels: str
    group: str | None
    readings: list[
        Literal["unknown", "predicted", "averaged", "permuted", "masked", "running", "batch", "batch16"]
    ]
    select: Literal["accuracy", "loss"]
    components: NotNegative
    latent: Literal["normal", "uniform"]
    samples: Annotated[int, Field(ge=10)]
    references: Annotated[int, Field(ge=10)] | None
    features: Literal["pixels", "mobilenet_v2"]
    target_ratio: Positive
    operations: NotNegative
    strength: Annotated[float, Field(ge=0, le=1)]
    alignment: Literal["running", "per_class", "keras"]
    second_forward: Literal["source", "inference"]
    threshold: Annotated[float, Field(gt=0, le=1)]
    horizon: Annotated[float, Field(gt=0)]
    adapt_images: Positive


class LoggerConfig(Group):
    """Where the run is logged besides its record and history."""

    name: Literal["csv", "wandb"]
    project: str


class Presets(Group):
    """What a protocol says, for all runs and for single norms and data sets; read by ``${preset:KEY}``."""

    default: dict[str, Any]
    norm: dict[str, dict[str, Any]]
    dataset: dict[str, dict[str, Any]]


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

    @property
    def fold(self) -> int:
        """The part of the images that tests: `dataset.fold`, or with null every seed has its own in turn."""
        fold = self.dataset.fold
        return self.seed % (self.dataset.folds or 1) if fold is None else fold
