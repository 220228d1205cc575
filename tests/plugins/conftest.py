"""Packages installed by putting their metadata on the path; pip and the environment stay out of it."""

import sys
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent / "package"


def write_metadata(site: Path, name: str, version: str, points: Mapping[str, Mapping[str, str]]) -> None:
    """What pip writes of a package, as far as entry points go."""
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [
        line
        for group, entries in points.items()
        for line in (f"[{group}]", *(f"{entry} = {value}" for entry, value in entries.items()))
    ]
    (folder / "entry_points.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="session")
def example_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the example package as if it were installed there."""
    site = tmp_path_factory.mktemp("site")
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    write_metadata(site, project["name"], project["version"], project["entry-points"])
    (site / "cbnorm_example").symlink_to(PACKAGE / "cbnorm_example")
    return site


@pytest.fixture
def example(example_site: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The example package, installed."""
    monkeypatch.syspath_prepend(example_site)
    return example_site


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Installs a package of one module: its name, its entry points by group, the module's code."""

    def installed(name: str, points: Mapping[str, Mapping[str, str]], code: str = "") -> None:
        site = tmp_path / name
        write_metadata(site, name, "2.0", points)
        module = name.replace("-", "_")
        (site / f"{module}.py").write_text(code)
        monkeypatch.syspath_prepend(site)
        monkeypatch.delitem(sys.modules, module, raising=False)

    return installed
