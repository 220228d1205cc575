"""Which options each choice of a config group reads; the others don't count in a run's identity."""

from typing import Any

_TRACKED = ("eps", "momentum")
_LEARNED = ("eps", "convention", "scale", "unknown")
_MIXTURE = ("components", *_TRACKED, "update", "train_stats", "posterior", "temper", "init")

#: Which options of `norm` each norm reads; the rest is dropped from a run's identity.
NORM_OPTIONS: dict[str, tuple[str, ...]] = {
    "none": (),
    "bn": (*_TRACKED, "affine"),
    "ln": ("eps", "affine"),
    "in": ("eps", "affine"),
    "gn": ("groups", "eps", "affine"),
    "mn": ("components", *_TRACKED, "affine"),
    "mode": ("components", *_TRACKED, "affine"),
    "scb": _LEARNED,
    "scb_base": _LEARNED,
    "ucb": (*_MIXTURE, "eval_stats"),
    "uan": _MIXTURE,
    "conditional_bn": _TRACKED,
    "cluster_bn": (*_TRACKED, "affine", "separate", "scale", "unknown"),
}

_BN = ("bn_eps", "bn_momentum")
#: Which options of `model` each of our models reads, besides `placement`.
MODEL_OPTIONS: dict[str, tuple[str, ...]] = {
    "shallow_cnn": (*_BN, "last_kernel", "head"),
    "densenet": (*_BN, "depth", "variant", "stem_width", "dropout", "bookkeeping", "init"),
    "vit": ("ln_eps",),
    "oxford_cnn": _BN,
    "wrn": (*_BN, "rescale"),
    "dcgan": (*_BN, "activation"),
}

_ADAM = ("lr", "weight_decay", "decay_norms", "betas", "eps")
#: Which options of `optimizer` each optimizer reads, besides the schedule's.
OPTIMIZER_OPTIONS: dict[str, tuple[str, ...]] = {
    "adamw": (*_ADAM, "decay"),
    "adam": _ADAM,
    "sgd": ("lr", "weight_decay", "decay_norms", "momentum", "nesterov", "decoupled"),
}

#: Which options of `optimizer` each schedule reads.
SCHEDULE_OPTIONS: dict[str, tuple[str, ...]] = {
    "constant": (),
    "steps": ("milestones", "factor"),
    "cosine": ("factor",),
    "pieces": ("milestones", "multiples"),
}

#: Which options of `task` each task reads.
TASK_OPTIONS: dict[str, tuple[str, ...]] = {
    "classification": ("test_curve", "confident", "labels", "group", "readings", "select", "components"),
    "gan": ("latent", "samples", "references", "features"),
    "adamatch": (
        "target_ratio",
        "operations",
        "strength",
        "alignment",
        "second_forward",
        "threshold",
        "horizon",
        "adapt_images",
    ),
}

#: Norms that need the cluster of every image.
CLUSTERED_NORMS = frozenset({"scb", "scb_base", "conditional_bn", "cluster_bn"})

#: Options that came after the first records, with the value under which a run is what it was before them:
#: at that value they are left out of a run's identity, so that a new option makes no old record foreign.
LATER_OPTIONS: dict[str, Any] = {
    "dataset.split": "stratified",
    "dataset.statistics": "train",
    "model.bn_eps": 1e-5,
    "model.bn_momentum": 0.1,
    "model.last_kernel": 3,
    "model.head": "pool",
    "optimizer.schedule": "constant",
    "norm.temper": False,
    "norm.init": "spread",
    "norm.separate": False,
    "partition.test": "predict",
    "task.test_curve": False,
    "task.confident": False,
    "task.labels": "class",
    "task.group": None,
    "task.readings": [],
    "task.select": "accuracy",
    "task.components": 0,
    "trainer.rollback": False,
    "trainer.patience": None,
    "dataset.folds": None,
    "dataset.fold": 0,
    "dataset.augmentation.shift": 0.0,
    "dataset.augmentation.shear": 0.0,
    "dataset.augmentation.fill": "reflect",
    "dataset.augmentation.crop": 0,
}
