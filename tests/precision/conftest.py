from __future__ import annotations

import pytest

from tests.precision import digits


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> digits.Digits:
    """A ViT that reads digits, exported, with its images."""
    return digits.train(tmp_path_factory.mktemp("digits"))
