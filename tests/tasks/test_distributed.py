"""Two processes that share every batch train as one does, as long as no norm looks at the batch."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

#: What each layer computes for an image depends on that image and the weights alone.
ALONE = ("none", "ln", "gn", "in", "scb", "scb_base")
#: Statistics of the batch, which each process takes of its own part.
TOGETHER = ("bn", "mn", "ucb")

States = dict[str, dict[str, torch.Tensor]]


def processes(count: int, target: Path, port: int) -> list[subprocess.Popen[str]]:
    script = Path(__file__).with_name("distributed.py")
    command = [sys.executable, str(script), str(target), *ALONE, *TOGETHER]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    found = []
    for rank in range(count):
        own = {
            "RANK": rank,
            "LOCAL_RANK": rank,
            "GROUP_RANK": 0,
            "WORLD_SIZE": count,
            "LOCAL_WORLD_SIZE": count,
        }
        # Lightning takes the launcher of torch to be at work when it finds its variables.
        launched = shared | {key: str(value) for key, value in own.items()} | {"TORCHELASTIC_RUN_ID": "test"}
        environment = os.environ | (launched if count > 1 else shared)
        found.append(
            subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
        )
    return found


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> tuple[States, States]:
    """The last weights of one process, and of two."""
    folder = tmp_path_factory.mktemp("distributed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for process in [
        *processes(1, folder / "one.pt", port),
        *processes(2, folder / "two.pt", port),
    ]:
        out, _ = process.communicate(timeout=280)
        assert process.returncode == 0, out
    return torch.load(folder / "one.pt"), torch.load(folder / "two.pt")


def distance(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> float:
    """Largest difference of a weight."""
    weights = [key for key in one if key.startswith(("convs", "linear"))]
    return max((one[key] - two[key]).abs().max().item() for key in weights)


@pytest.mark.parametrize("norm", ALONE)
def test_norms_without_batch_statistics_train_as_in_one_process(
    norm: str, states: tuple[States, States]
) -> None:
    one, two = (found[norm] for found in states)
    for key in one:
        torch.testing.assert_close(two[key], one[key], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", TOGETHER)
def test_norms_with_batch_statistics_do_not(norm: str, states: tuple[States, States]) -> None:
    """What docs/determinism.md says of them: each process sees statistics of its own part of the batch."""
    one, two = (found[norm] for found in states)
    assert distance(one, two) > 2e-4
