"""What several tests of workflows share."""

from __future__ import annotations

import pytest

from tests.precision.digits import Digits
from tests.workflows.quantize.quantizing import config, quantize
from vitrify.workflows.quantize import QuantizeResult


@pytest.fixture(scope="session")
def int8(trained: Digits, tmp_path_factory: pytest.TempPathFactory) -> QuantizeResult:
    return quantize(trained, trained.onnx, tmp_path_factory.mktemp("int8") / "digits.int8.onnx", config())
