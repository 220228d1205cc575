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
