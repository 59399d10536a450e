"""A stand-in for TensorRT's binding, where there is no GPU."""

from __future__ import annotations

import enum
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from tests.cuda.fake_cuda import FakeCuda
from tests.tensorrt.fake_builder import builder_side
from tests.tensorrt.fake_runtime import runtime_side
from vitrify.artifacts import Flavour
from vitrify.tensorrt import TensorRt
from vitrify.tensorrt.releases import release_of


def _enum(name: str, members: str) -> Any:
    return enum.IntEnum(name, members.split(), start=0)


class FakeTensorRt:
    """The part of the binding's API that vitrify calls.

    Attributes:
        rtx: Whether it is TensorRT-RTX.
        refuse: What the builder answers every network with, such as an out-of-memory message.
        types: Types that the inspector reports for matrix layers.
        host_code: Whether plans carry host code, which a runtime has to allow.
        layer_types: The type of what the network's layers give.
        error: What every engine adds to its answers.
        refuse_batch: What every context answers a batch with.
        while_writing: Called in the middle of every line that is written to a log.
        loaded: Every plan that was given to be loaded.
    """

    def __init__(self, cuda: FakeCuda, version: str = "10.13.0.35", flavour: Flavour = "full") -> None:
        self.cuda = cuda
        self.rtx = flavour == "rtx"
        self.refuse = self.refuse_batch = ""
        self.while_writing: Callable[[], object] = lambda: None
        self.loaded: list[bytes] = []
        self.types = "Float"
        self.host_code = False
        self.layer_types = "FLOAT"
        self.error = 0.0
        self.contexts = self.runs = 0
        self.most_contexts = 1 << 20
        self.old = version.startswith("8.")

        class ILogger:
            Severity = _enum("Severity", "INTERNAL_ERROR ERROR WARNING INFO VERBOSE")

        class IProgressMonitor:
            pass

        self.config: Any = None
        self.network: Any = None
        module = self.module = SimpleNamespace(
            __name__="tensorrt",
            ILogger=ILogger,
            IProgressMonitor=IProgressMonitor,
            **runtime_side(self),
            **builder_side(self),
            ComputeCapability=_enum("ComputeCapability", "NONE SM89 SM120"),
            DataType=_enum("DataType", "FLOAT HALF"),
            TensorIOMode=_enum("TensorIOMode", "NONE INPUT OUTPUT"),
            LayerType=_enum("LayerType", "SOFTMAX OTHER"),
            BuilderFlag=_enum("BuilderFlag", "FP16 INT8 TF32 OBEY_PRECISION_CONSTRAINTS VERSION_COMPATIBLE"),
            NetworkDefinitionCreationFlag=_enum("NetworkDefinitionCreationFlag", "EXPLICIT_BATCH STRONGLY_TYPED"),
            ProfilingVerbosity=_enum("ProfilingVerbosity", "LAYER_NAMES_ONLY DETAILED"),
            MemoryPoolType=_enum("MemoryPoolType", "WORKSPACE"),
            TacticSource=_enum("TacticSource", "CUBLAS CUBLAS_LT CUDNN"),
            HardwareCompatibilityLevel=_enum("HardwareCompatibilityLevel", "NONE AMPERE_PLUS SAME_COMPUTE_CAPABILITY"),
            LayerInformationFormat=_enum("LayerInformationFormat", "ONELINE JSON"),
            ExecutionContextAllocationStrategy=_enum("Strategy", "STATIC ON_PROFILE_CHANGE USER_MANAGED"),
        )
        if self.old:
            del module.ExecutionContextAllocationStrategy, module.IProgressMonitor
        self.binding = TensorRt(self.module, release_of(flavour, version), version)

    def say(self, logger: Any, severity: str, message: str) -> bool:
        """Writes to a log, from code that lets no exception pass; False, for a call that failed."""

        class Message(str):
            def startswith(inner, *arguments: Any) -> bool:  # noqa: N805 - `self` is the binding
                self.while_writing()
                return str.startswith(inner, *arguments)

        try:
            logger.log(self.module.ILogger.Severity[severity], Message(message))
        except BaseException as error:
            raise AssertionError("std::terminate: an exception left a callback") from error
        return False
