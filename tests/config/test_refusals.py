"""Bad input is refused at once, in one line that names the nearest valid choice."""

import subprocess
import sys
import time

import pytest

from cbnorm.config.compose import compose_run
from cbnorm.errors import CbnormError

REFUSALS = {
    "norm=bnn": "unknown norm 'bnn': did you mean 'bn'?",
    "experiment=table55": "unknown experiment 'table55': did you mean 'table5'?",
    "dataset=cifar11": "unknown dataset 'cifar11': did you mean 'cifar10'?",
    "norm.componets=3": "unknown option 'norm.componets': did you mean 'norm.components'?",
    "++norm.componets=3": "unknown option 'norm.componets': did you mean 'norm.components'?",
    "+optimizer.lrr=0.1": "unknown option 'optimizer.lrr': did you mean 'optimizer.lr'?",
    "norm.num_clusters=4": "unknown option 'norm.num_clusters': in a run that is partition.clusters",
    "+norm.num_component=4": "unknown option 'norm.num_component': in a run that is norm.components",
    "lr=0.1": "unknown option 'lr': did you mean 'optimizer.lr'?",
    "optimizer.lr=-1": "optimizer.lr=-1 must be greater than 0",
    "optimizer.lr=fast": "optimizer.lr=fast must be a valid number",
    "optimizer.lr=nan": "optimizer.lr=nan must be",
    "trainer.max_epochs=2.5": "trainer.max_epochs=2.5 must be a valid integer",
    "partition.clusters=0 norm=scb": "partition.clusters=0 must be greater than 0",
    "norm.components=0 norm=ucb": "norm.components=0 must be greater than 0",
    "norm=scb partition=none": "norm=scb needs clusters",
    "norm=ucb norm.posterior=jiont": "norm.posterior=jiont must be 'per_channel' or 'joint'",
    "norm=ucb norm.temper=true": "norm.temper=true needs norm.posterior=joint, not per_channel",
    "norm.name=ucb": "write norm=NAME",
    "model.placement=[5]": "shallow_cnn has norm layers 1 to 4",
    "dataset.image_size=30": "multiple of 8",
    "model=densenet dataset.image_size=2": "densenet needs 4 or more",
    "experiment=dcgan trainer.engine=loop": "task=gan has two: choose lightning",
    "optimizer.decay=absolute optimizer.schedule=cosine": "choose optimizer.schedule=constant, or",
    "experiment=table8 norm=in model.placement=[3]": "norm=in leaves nothing of one value a channel",
    "experiment=dcgan norm=in model.placement=[1]": "all that dcgan has at model.placement=[1]",
    "optimizer=sgd optimizer.momentum=0": "leaves nothing to optimizer.nesterov=true",
    "optimizer.betas=[0.9]": "optimizer.betas=[0.9] must have at least 2 items",
    "norm=scb partition=gmm task.readings=[predicted]": "guess ids that follow from the class",
    "norm=scb dataset=cifar100 partition=attribute partition.attribute=superclass "
    "task.readings=[predicted] task.group=attribute": "they need task.group=superclass, not attribute",
    "trainer.max_epochs=1": "no room for 4 moments",
    "dataset.train_images=60000": "train_images=60000",
    "~norm": "takes away what a run needs: choose with norm=NAME",
    "norm=scb partition=gmm partition.run=deadbeef": "must be the id of a run, twelve hexadecimal digits",
    "optimizer.lr": "write key=value",
    "norm=a=b": "cannot read 'norm=a=b': write key=value",
    "partition.file=a(1).csv": """needs quotes within quotes, as in "partition.file='a(1).csv'\"""",
    "norm=glob(zz*)": "'norm=glob(zz*)' fits no name: write one of bn, ",
    "norm=interval(0,1)": "names no values: write them with commas",
    "trainer.threads=100000": "trainer.threads=100000 must be less than or equal to 1024",
}


@pytest.mark.parametrize(("words", "message"), REFUSALS.items())
def test_bad_input_is_one_line_that_helps(words: str, message: str) -> None:
    with pytest.raises(CbnormError) as refused:
        compose_run(words.split())
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "words",
    ["norm=scb partition=none", "++norm.componets=3", "-m norm=bn,mnn", "norm=bn,scb", "trainer.seed=1"],
)
def test_the_command_refuses_without_importing_torch(words: str) -> None:
    code = (
        "import sys; from cbnorm.cli import main; status = main(['train', *sys.argv[1:]]); "
        "assert 'torch' not in sys.modules, 'torch was imported'; sys.exit(status)"
    )
    began = time.monotonic()
    answer = subprocess.run(
        [sys.executable, "-c", code, *words.split()], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 2, answer.stderr
    assert answer.stdout == ""
    assert answer.stderr.startswith("cbnorm: ")
    assert answer.stderr.count("\n") == 1
    # Generous: the promise is two seconds, the machine may be busy.
    assert time.monotonic() - began < 20
