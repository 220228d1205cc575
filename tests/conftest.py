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
    """Where real data can be had (CBNORM_REQUIRE_REAL_DATA=1), a skipped check of it is a failed one."""
    report = yield
    required = os.environ.get("CBNORM_REQUIRE_REAL_DATA") == "1"
    if required and report.skipped and item.get_closest_marker("real_data"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped although real data can be had: {call.excinfo}"
    return report
