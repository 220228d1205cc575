"""What the package costs: imports and memory, measured in processes of their own."""

import subprocess
import sys

import pytest

MEASURE = """
import sys, torch
from pathlib import Path
from cbnorm.mixtures import {name}

def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024

data = torch.from_file(sys.argv[1], shared=True, size=20000 * 3072, dtype=torch.uint8).view(20000, 3072)
{name}(data[:600], 3, **{{{options}}})
before = peak()
{name}(data, 3, **{{{options}}})
print(peak() - before)
"""


def test_importing_needs_torch_alone():
    code = (
        "import torch, sys; before = set(sys.modules); import cbnorm.mixtures;"
        "print({name.partition('.')[0] for name in set(sys.modules) - before} - sys.stdlib_module_names)"
    )
    answer = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert answer.stdout.strip() == "{'cbnorm'}"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")
@pytest.mark.parametrize(
    ("name", "options"), [("kmeans", "'max_iter': 1"), ("fit_mixture", "'max_iter': 1"), ("pca", "")]
)
def test_a_mapped_file_is_never_copied_whole(tmp_path, name, options):
    """The file takes 59 MiB, its copy in float32 would take 234."""
    path = tmp_path / "pixels"
    block = bytes(range(256)) * 12
    with path.open("wb") as file:
        for row in range(20000):
            file.write(block[row % 251 :] + block[: row % 251])
    code = MEASURE.format(name=name, options=options)
    answer = subprocess.run([sys.executable, "-c", code, path], check=True, capture_output=True, text=True)
    assert float(answer.stdout) < 59 + 80


WHOLE = """
import sys, torch
from pathlib import Path
from cbnorm.mixtures import {name}

def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024

generator = torch.Generator().manual_seed(0)
{data}
{name}(data[:600], 3, max_iter=1, generator=generator)
before = peak()
{name}(data, 3, max_iter=2, generator=generator)
print(before, peak())
"""
IN_MEMORY = """
data = torch.empty(50000, 3072)
for rows in data.split(1000):
    rows.copy_(torch.rand(rows.shape, generator=generator))
"""
MAPPED = """
data = torch.from_file(sys.argv[1], shared=True, size=100000 * 12288, dtype=torch.uint8).view(100000, 12288)
"""


def peaks(name: str, data: str, *arguments: object) -> list[float]:
    """MiB before and after a fit, in a process of its own."""
    code = WHOLE.format(name=name, data=data)
    answer = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], check=True, capture_output=True
    )
    return [float(word) for word in answer.stdout.split()]


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")
@pytest.mark.parametrize("name", ["kmeans", "fit_mixture"])
def test_cifar_s_size_takes_its_data_and_300_megabytes(name):
    before, after = peaks(name, IN_MEMORY)
    assert before > 50000 * 3072 * 4 / 2**20
    assert after - before < 300


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")
@pytest.mark.parametrize("name", ["kmeans", "fit_mixture"])
def test_tiny_imagenet_s_size_is_mapped_within_two_gigabytes(tmp_path, name):
    """The mapped pages that count are 1,172 MiB; a copy in float32 would be 4,688."""
    path = tmp_path / "pixels"
    with path.open("wb") as file:
        # Sparse but for some rows, so that it costs little to make and points can be told apart.
        for row in range(0, 100000, 100):
            file.seek(row * 12288)
            file.write(bytes((row // 100 + i) % 251 for i in range(256)) * 4)
        file.truncate(100000 * 12288)
    assert peaks(name, MAPPED, path)[1] < 2048
