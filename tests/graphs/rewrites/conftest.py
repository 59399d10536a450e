from __future__ import annotations

import logging
from collections.abc import Callable

import pytest


@pytest.fixture
def reasons(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """What was logged about places that stay as they are."""
    caplog.set_level(logging.DEBUG, "vitrify.graphs")
    return lambda: "\n".join(record.getMessage() for record in caplog.records)
