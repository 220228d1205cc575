import os
from collections.abc import Iterator

import cbnorm._torchvision  # noqa: F401  (before torchvision, lightning and torchmetrics)

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
    """Where real data can be had (CBNORM_REQUIRE_REAL_DATA=1), a skipped check of it is a failed one."""
    report = yield
    required = os.environ.get("CBNORM_REQUIRE_REAL_DATA") == "1"
    if required and report.skipped and item.get_closest_marker("real_data"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped although real data can be had: {call.excinfo}"
    return report
