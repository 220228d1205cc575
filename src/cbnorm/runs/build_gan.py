"""The parts of a run that learns to generate images."""

from functools import partial
from pathlib import Path

import torch

from cbnorm.config.schema import RunConfig
from cbnorm.data import weights
from cbnorm.data.augment import Augmentation
from cbnorm.data.batches import Batches
from cbnorm.data.images import ImageData
from cbnorm.data.splits import Split
from cbnorm.data.streams import derived_seed, generator
from cbnorm.errors import CbnormError
from cbnorm.metrics.extractors import EXTRACTORS
from cbnorm.metrics.fid import Fid, inception_weights
from cbnorm.models.dcgan import LATENT, Discriminator, Generator
from cbnorm.runs.build import Parts, in_layout, load_data, norm_layer
from cbnorm.tasks.adversarial import latent
from cbnorm.tasks.gan import Adversaries, Gan
from cbnorm.tasks.gan_reader import GanReader
from cbnorm.tasks.samples import Judge, RealImages

#: Images are trained on in [-1, 1], the range of the generator.
_MIDDLE = (0.5, 0.5, 0.5)


def build_gan(config: RunConfig, device: torch.device) -> Parts:
    """The parts of a run that learns to generate images.

    Raises:
        CbnormError: More samples or references are asked for than there are real images, or the weights of
            the network that they are compared by can't be had.
    """
    inception = _weights(config)
    data = load_data(config)
    real = real_images(config, data)
    train = Batches(
        data.train,
        None,
        batch_size=config.trainer.batch_size,
        mean=_MIDDLE,
        std=_MIDDLE,
        seed=config.seed,
        augmentation=Augmentation(**config.dataset.augmentation.model_dump()),
        shuffle=True,
        device=device,
        memory_format=torch.channels_last if config.trainer.channels_last else torch.contiguous_format,
        # Batch statistics of a few images left over would be of another kind.
        drop_last=True,
    )
    task = Gan(
        adversaries(config),
        config.optimizer,
        law=config.task.latent,
        steps=len(train) * config.trainer.max_epochs,
        bf16=config.trainer.precision == "bf16",
    )
    vectors = latent(config.task.samples, LATENT, config.task.latent, generator(config.seed, "samples"))
    make = partial(judge, config, real, device, inception)
    reader = GanReader(make, vectors.to(device), config.trainer.batch_size)
    return Parts(data, None, {}, task, train, reader)


def adversaries(config: RunConfig) -> Adversaries:
    """Both networks in their initial state, which depends on the seed alone.

    Raises:
        CbnormError: The generator has no place where the norm is to be put.
    """
    model = config.model
    bn = {"bn_eps": model.bn_eps, "bn_momentum": model.bn_momentum}
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed(config.seed, "init"))
            made = Generator(
                lambda features: norm_layer(config, features),
                model.placement,
                activation=model.activation,
                **bn,
            )
            torch.manual_seed(derived_seed(config.seed, "init", 1))
            pair = Adversaries(made, Discriminator(**bn))
    except ValueError as error:
        raise CbnormError(f"model=dcgan: {error}") from error
    in_layout(pair, config)
    return pair


def real_images(config: RunConfig, data: ImageData) -> RealImages:
    """Which real images samples are judged by: the same for every seed and row.

    Raises:
        CbnormError: There are fewer than asked for.
    """
    task = config.task
    if task.samples > len(data.test):
        raise CbnormError(
            f"task.samples={task.samples} is too many: as many test images stand beside them,"
            f" and there are {len(data.test)}"
        )
    if task.samples > len(data.train):
        raise CbnormError(
            f"task.samples={task.samples} is too many: they are judged by at least as many training images,"
            f" and there are {len(data.train)}"
        )
    wanted = len(data.train) if task.references is None else task.references
    if not task.samples <= wanted <= len(data.train):
        raise CbnormError(
            f"task.references={task.references} is impossible: choose from task.samples={task.samples} to the"
            f" {len(data.train)} training images"
        )
    references, held_out = (
        _drawn(data.train, wanted, "references"),
        _drawn(data.test, task.samples, "held-out"),
    )
    return RealImages(
        references.images, references.labels, held_out.images, held_out.labels, data.num_classes
    )


def _weights(config: RunConfig) -> Path | None:
    """Fetch what is needed before anything is trained; Inception's weights where they are."""
    if config.task.features == "mobilenet_v2":
        weights.ensure(weights.MOBILENET)
    return inception_weights()


def judge(config: RunConfig, real: RealImages, device: torch.device, inception: Path | None) -> Judge:
    """What measures samples: pixels always, the network that is asked for, FID where Inception is here."""
    names = list(dict.fromkeys([config.task.features, "pixels"]))
    fid = None if inception is None else Fid(real.references, inception, device)
    return Judge(real, [EXTRACTORS[name](device) for name in names], fid)


def _drawn(split: Split, count: int, name: str) -> Split:
    """Some images of a split, at random: sets may be sorted by class."""
    return split.take(torch.randperm(len(split), generator=generator(0, name))[:count])
