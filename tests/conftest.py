import os
from collections.abc import Iterator

import cbnorm._torchvision  # noqa: F401  (before torchvision, lightning and torchmetrics)

import pytest


@pytest.fixture(scope="session", autouse=True)
def fits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fits of partitions are remembered for this session, in a folder of its own: nobody's cache grows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CBNORM_FITS_DIR", str(tmp_path_factory.mktemp("fits")))
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
    """Where real data are known to be (CBNORM_REQUIRE_REAL_DATA=NAME,...), a skipped check failed."""
    report = yield
    here = os.environ.get("CBNORM_REQUIRE_REAL_DATA", "").split(",")
    marker = item.get_closest_marker("real_data")
    if report.skipped and marker is not None and set(marker.args) <= set(here):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped although real data can be had: {call.excinfo}"
    return report
