"""What fits together in a config."""

from cbnorm.config.choices import check_packages, groups, needs_clusters, norm_options
from cbnorm.config.readings import check_readings
from cbnorm.config.schema import RunConfig
from cbnorm.data import catalog
from cbnorm.errors import CbnormError

#: Places of a network where every channel has one value an image.
_FLAT = {"dcgan": {1}, "oxford_cnn": {2, 3}}


def check_combination(run: RunConfig) -> None:
    """Refuse what is possible by itself, but not together.

    Raises:
        CbnormError: One line that names the options and what would fit.
    """
    check_packages(run)
    _check_norm(run)
    _check_schedule(run)
    _check_task(run)
    _check_images(run)


def _check_norm(run: RunConfig) -> None:
    norm, partition = run.norm.name, run.partition.name
    if needs_clusters(norm) and partition == "none":
        choices = ", ".join(name for name in groups()["partition"] if name != "none")
        raise CbnormError(
            f"norm={norm} needs clusters, but partition=none gives none: choose partition from {choices}"
        )
    if run.norm.temper and "temper" in norm_options(norm) and run.norm.posterior != "joint":
        raise CbnormError(
            f"norm.temper=true needs norm.posterior=joint, not {run.norm.posterior}: "
            "a posterior of one channel has nothing to be divided by"
        )
    model = run.model.name
    flat = sorted(_FLAT.get(model, set()) & set(run.model.placement))
    if norm == "in" and flat:
        raise CbnormError(
            f"norm=in leaves nothing of one value a channel, which is all that {model} has at "
            f"model.placement={flat}: choose other places, or another norm"
        )


def _check_images(run: RunConfig) -> None:
    d = run.dataset
    images = catalog.fold_counts(catalog.find(d.name), d.folds, run.fold)
    catalog.check_folder(images, d.folder)
    catalog.check_numbers(images, d.val_images, d.train_images, d.test_images, d.image_size)
    if run.model.name == "densenet" and d.image_size < 4:
        raise CbnormError(f"dataset.image_size={d.image_size}: densenet needs 4 or more")
    if run.model.name != "shallow_cnn":
        return
    if not set(run.model.placement) <= {1, 2, 3, 4}:
        raise CbnormError(f"model.placement={run.model.placement}: shallow_cnn has norm layers 1 to 4")
    if d.image_size < 32 or d.image_size % 8:
        raise CbnormError(f"dataset.image_size={d.image_size}: shallow_cnn needs a multiple of 8 from 32 up")


def _check_schedule(run: RunConfig) -> None:
    moments = len(set(run.trainer.moments))
    if run.trainer.max_epochs < moments:
        raise CbnormError(
            f"trainer.max_epochs={run.trainer.max_epochs} has no room for {moments} moments: "
            "raise it or set trainer.moments=[100]"
        )
    o = run.optimizer
    if o.name == "adamw" and o.decay == "absolute" and o.schedule != "constant":
        raise CbnormError(
            f"optimizer.decay=absolute would follow optimizer.schedule={o.schedule}: "
            "choose optimizer.schedule=constant, or optimizer.decay=times_lr"
        )
    if o.name == "sgd" and o.nesterov and o.momentum == 0:
        raise CbnormError("optimizer.momentum=0 leaves nothing to optimizer.nesterov=true: set it to false")
    if o.schedule == "pieces" and len(o.multiples) != len(o.milestones):
        raise CbnormError(
            f"optimizer.multiples={o.multiples} must be one for each of optimizer.milestones={o.milestones}"
        )


def _check_task(run: RunConfig) -> None:
    generates = run.task.name == "gan"
    if generates != (run.model.name == "dcgan"):
        raise CbnormError(
            f"task={run.task.name} can't train model={run.model.name}: task=gan goes with model=dcgan"
        )
    if generates and needs_clusters(run.norm.name):
        raise CbnormError(
            f"norm={run.norm.name} needs the cluster of every image, which an image that is generated has not"
        )
    if generates and run.trainer.engine == "loop":
        raise CbnormError("trainer.engine=loop drives one optimizer, task=gan has two: choose lightning")
    if generates and run.dataset.image_size != 32:
        raise CbnormError(f"dataset.image_size={run.dataset.image_size}: dcgan makes images of 32")
    check_readings(run)
    if run.task.name == "adamatch":
        _check_domains(run)


def _check_domains(run: RunConfig) -> None:
    if run.model.name != "wrn":
        raise CbnormError(
            f"task=adamatch trains model=wrn, which scales the images itself, not model={run.model.name}"
        )
    if not catalog.find(run.dataset.name).domains:
        pairs = ", ".join(key for key, entry in catalog.DATA_SETS.items() if entry.domains)
        raise CbnormError(
            f"task=adamatch needs a set of two domains, not dataset={run.dataset.name}: choose from {pairs}"
        )
    if run.dataset.split == "last":
        raise CbnormError("dataset.split=last would validate on the target alone: choose stratified")
    if needs_clusters(run.norm.name) and run.partition.name != "domain":
        raise CbnormError(
            f"task=adamatch tells norm={run.norm.name} the domain of every image: choose partition=domain, "
            f"not {run.partition.name}"
        )
