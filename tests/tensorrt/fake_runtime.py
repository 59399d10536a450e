"""The stand-in's engines: ONNX Runtime computes, on host memory.

It is strict where TensorRT is: a context that a graph was recorded from may not be changed, 8.5 gives a profile to one
context, and nothing may be raised inside a callback.
"""

from __future__ import annotations

import ctypes
import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

if TYPE_CHECKING:
    from tests.tensorrt.fake import FakeTensorRt

MAGIC = b"fakeplan"


def runtime_side(fake: FakeTensorRt) -> dict[str, Any]:
    """What runs plans."""

    class Context:
        def __init__(self, engine: Any) -> None:
            fake.contexts += 1
            self.engine = engine
            self.memory = 0
            self.shape: tuple[int, ...] = ()
            self.addresses: dict[str, int] = {}
            self.recorded: set[int] = set()  # graphs that it went into

        def _change(self) -> None:
            assert not self.recorded & fake.cuda.graphs.keys(), "the context of a graph was changed"

        def set_optimization_profile_async(self, index: int, stream: int) -> bool:
            if fake.old:
                assert index not in self.engine.taken, "8.5 gives a profile to one context"
            self.engine.taken.add(index)
            self.profile = self.engine.profiles[index]
            return True

        def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
            self._change()
            self.shape = shape
            if self.profile[0] <= shape[0] <= self.profile[2]:
                return True
            return fake.say(self.engine.logger, "ERROR", f"no batch of {shape[0]} in the profile")

        def set_tensor_address(self, name: str, address: int) -> bool:
            self._change()
            self.addresses[name] = address
            return True

        def execute_async_v3(self, stream: int) -> bool:
            if fake.cuda.recording is not None:
                fake.cuda.recorded_contexts.append(self)
            assert self.memory in fake.cuda.memory
            fake.say(self.engine.logger, "VERBOSE", "enqueued")
            if fake.refuse_batch:
                return fake.say(self.engine.logger, "ERROR", fake.refuse_batch)
            shape, addresses = self.shape, dict(self.addresses)
            fake.cuda.give(stream, lambda: self.engine.run(shape, addresses))
            return True

    class OldContext(Context):
        device_memory = property(fset=lambda self, address: setattr(self, "memory", address))

    class NewContext(Context):
        def set_device_memory(self, address: int, size: int) -> None:
            self.memory = address

    class RuntimeCache:
        content = b"1.7:"

        def serialize(self) -> bytes:
            return self.content

        def deserialize(self, content: bytes) -> bool:
            fits = content.startswith(b"1.7:")
            if fits:
                self.content = content
            return fits

    class RuntimeConfig:
        strategy: Any = None
        cache: Any = None

        create_runtime_cache = staticmethod(RuntimeCache)

        def set_execution_context_allocation_strategy(self, strategy: Any) -> None:
            self.strategy = strategy

        def set_runtime_cache(self, cache: Any) -> bool:
            self.cache = cache
            return True

    class Engine:
        def __init__(self, head: dict[str, Any], graph: bytes, logger: Any) -> None:
            self.logger = logger
            self.profiles = head["profiles"]
            self.session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
            self.tensors = [*self.session.get_inputs(), *self.session.get_outputs()]
            self.num_io_tensors = len(self.tensors)
            self.num_optimization_profiles = len(self.profiles)
            self.taken: set[int] = set()
            setattr(self, "device_memory_size" if fake.old else "device_memory_size_v2", 4096)

        def get_tensor_name(self, index: int) -> str:
            return str(self.tensors[index].name)

        def _named(self, name: str) -> Any:
            return next(tensor for tensor in self.tensors if tensor.name == name)

        def get_tensor_dtype(self, name: str) -> Any:
            return {"tensor(float)": fake.module.DataType.FLOAT, "tensor(float16)": fake.module.DataType.HALF}[
                self._named(name).type
            ]

        def get_tensor_shape(self, name: str) -> list[int]:
            return [n if isinstance(n, int) else -1 for n in self._named(name).shape]

        def get_tensor_mode(self, name: str) -> Any:
            first = name in {tensor.name for tensor in self.session.get_inputs()}
            return fake.module.TensorIOMode.INPUT if first else fake.module.TensorIOMode.OUTPUT

        def get_tensor_profile_shape(self, name: str, index: int) -> list[tuple[int, ...]]:
            rest = self.get_tensor_shape(name)[1:]
            return [(batch, *rest) for batch in self.profiles[index]]

        def create_execution_context(self, given: Any) -> Any:
            strategy = given.strategy if isinstance(given, RuntimeConfig) else given
            assert strategy == fake.module.ExecutionContextAllocationStrategy.USER_MANAGED
            if fake.contexts >= fake.most_contexts:
                fake.say(self.logger, "ERROR", "no memory for a context")
                return None
            if isinstance(given, RuntimeConfig) and given.cache is not None:
                given.cache.content += b"+"  # a context compiles kernels
            return NewContext(self)

        def create_runtime_config(self) -> Any:
            assert fake.rtx
            return RuntimeConfig()

        def create_execution_context_without_device_memory(self) -> Any:
            assert fake.old
            return OldContext(self)

        def create_engine_inspector(self) -> Any:
            layer = {"Name": "gemm", "LayerType": "gemm", "Inputs": [{"Datatype": fake.types}], "Outputs": []}
            text = json.dumps({"Layers": [layer], "I/O Tensors": []})
            return SimpleNamespace(get_engine_information=lambda form: text)

        def run(self, shape: tuple[int, ...], addresses: dict[str, int]) -> None:
            fake.runs += 1
            (fed,), given = self.session.get_inputs(), self.session.get_outputs()
            count = int(np.prod(shape))
            values = np.ctypeslib.as_array((ctypes.c_float * count).from_address(addresses[fed.name]))
            answers = self.session.run(None, {fed.name: values.reshape(shape)})
            for tensor, answer in zip(given, answers, strict=True):
                out = np.ascontiguousarray(answer + np.float32(fake.error))
                ctypes.memmove(addresses[tensor.name], out.ctypes.data, out.nbytes)

    class Runtime:
        def __init__(self, logger: Any) -> None:
            self.logger = logger
            self.engine_host_code_allowed = False

        def deserialize_cuda_engine(self, plan: bytes) -> Any:
            fake.loaded.append(plan)
            fake.say(self.logger, "INFO", f"Loaded engine size: {len(plan)}")
            try:
                if fake.host_code and not self.engine_host_code_allowed:
                    raise ValueError("the plan carries host code")
                if not plan.startswith(MAGIC):
                    raise ValueError("magic tag does not match")
                head, _, graph = plan.removeprefix(MAGIC).partition(b"\n")
                return Engine(json.loads(head), graph, self.logger)
            except Exception as error:  # whatever is wrong, TensorRT logs it and gives nothing
                fake.say(self.logger, "ERROR", f"Serialization assertion failed: {error}")
                return None

    return {"Runtime": Runtime}
