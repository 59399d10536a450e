"""A stand-in for TensorRT's binding and for the GPU, where there is neither: ONNX Runtime computes, on host memory.

It is strict where the real ones are: work runs only when a stream is waited for, a context that a graph was recorded
from may not be changed, freed memory may not be used, and what was not given back is counted.
"""

from __future__ import annotations

import contextlib
import ctypes
import enum
import json
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import onnx
import onnxruntime

from vitrify.engines.arrays import CPU, CUDA, CUDA_MANAGED
from vitrify.engines.device import Gpu
from vitrify.engines.releases import TensorRt, release_of
from vitrify.errors import DeviceError

H100 = Gpu(name="NVIDIA H100 80GB HBM3", compute_capability="9.0", memory_bytes=80 << 30, driver="13.0")
_MAGIC = b"fakeplan"
_DEVICE_STREAM = 0


class FakeCuda:
    """`Cuda` on host memory, with queues for streams."""

    memory_kinds: ClassVar[tuple[int, ...]] = (CPU, CUDA, CUDA_MANAGED)  # the host stands in for the device

    def __init__(self, gpu: Gpu = H100, *, memory_bytes: int = 1 << 30) -> None:
        self._gpu = gpu
        self._free_bytes = memory_bytes
        self.memory: dict[int, Any] = {}
        self.queues: dict[int, list[Callable[[], None]]] = {_DEVICE_STREAM: []}
        self.graphs: dict[int, list[Callable[[], None]]] = {}
        self.events: set[int] = set()
        self._running = threading.RLock()  # the GPU does one thing at a time
        self._recording = threading.local()  # a thread records its own calls alone
        self.allocations = self.launches = 0
        self.refuse_capture = ""  # what the driver answers to a recording
        self._handle = 100

    def gpu(self) -> Gpu:
        return self._gpu

    @property
    def recording(self) -> list[Callable[[], None]] | None:
        found: list[Callable[[], None]] | None = getattr(self._recording, "work", None)
        return found

    @property
    def recorded_contexts(self) -> list[Any]:
        contexts: list[Any] = self._recording.contexts
        return contexts

    def _next(self) -> int:
        self._handle += 1
        return self._handle

    def allocate(self, size: int) -> int:
        if size > self._free_bytes:
            raise DeviceError("the GPU is out of memory", got=f"{self._free_bytes} bytes free", hint="--profile")
        self._free_bytes -= size
        self.allocations += 1
        block = ctypes.create_string_buffer(size)
        self.memory[ctypes.addressof(block)] = block
        return ctypes.addressof(block)

    def free(self, address: int) -> None:
        self._free_bytes += len(self.memory.pop(address))

    allocate_pinned = allocate
    free_pinned = free

    def create_stream(self) -> int:
        stream = self._next()
        self.queues[stream] = []
        return stream

    def destroy_stream(self, stream: int) -> None:
        assert not self.queues.pop(stream)

    def create_event(self) -> int:
        self.events.add(self._next())
        return self._handle

    def destroy_event(self, event: int) -> None:
        self.events.remove(event)

    def give(self, stream: int, work: Callable[[], None]) -> None:
        recording = self.recording
        (self.queues[stream] if recording is None else recording).append(work)

    def synchronize(self, stream: int) -> None:
        assert self.recording is None, "a stream cannot be waited for while it is recorded"
        self._run(stream, lambda: False)

    def _run(self, stream: int, enough: Callable[[], bool]) -> None:
        with self._running:
            queue = self.queues.get(stream, [])
            while queue and not enough():
                queue.pop(0)()

    def wait_for(self, stream: int, other: int, event: int) -> None:
        assert event in self.events
        reached: list[bool] = []
        self.queues[other].append(lambda: reached.append(True))
        self.give(stream, lambda: self._run(other, lambda: bool(reached)))

    def copy(self, target: int, source: int, size: int, stream: int) -> None:
        assert {target, source} <= self.memory.keys()
        self.give(stream, lambda: _move(target, source, size))

    @contextlib.contextmanager
    def capture(self, stream: int) -> Iterator[list[int]]:
        recorded: list[int] = []
        work = self._recording.work = []
        self._recording.contexts = []
        try:
            yield recorded
            if self.refuse_capture:
                raise DeviceError("cudaGraphInstantiate failed", got=self.refuse_capture)
            graph = self._next()
            self.graphs[graph] = work
            recorded.append(graph)
            for context in self.recorded_contexts:
                context.recorded.add(graph)
        finally:
            self._recording.work = None

    def launch(self, graph: int, stream: int) -> None:
        self.launches += 1
        for work in self.graphs[graph]:
            self.give(stream, work)

    def destroy_graph(self, graph: int) -> None:
        del self.graphs[graph]


def _move(target: int, source: int, size: int) -> None:
    ctypes.memmove(target, source, size)


def _enum(name: str, members: str) -> Any:
    return enum.IntEnum(name, members.split(), start=0)


class FakeTensorRt:
    """The part of the binding's API that vitrify calls.

    Attributes:
        refuse: What the builder answers every network with, such as an out-of-memory message.
        types: Types that the inspector reports for matrix layers.
        host_code: Whether plans carry host code, which a runtime has to allow.
        layer_types: The type of what the network's layers give.
        error: What every engine adds to its answers.
    """

    def __init__(self, cuda: FakeCuda, version: str = "10.13.0.35") -> None:
        self.cuda = cuda
        self.refuse = ""
        self.types = "Float"
        self.host_code = False
        self.layer_types = "FLOAT"
        self.error = 0.0
        self.contexts = self.runs = 0
        self.most_contexts = 1 << 20
        self.old = version.startswith("8.")
        fake = self

        class ILogger:
            Severity = _enum("Severity", "INTERNAL_ERROR ERROR WARNING INFO VERBOSE")

        class IProgressMonitor:
            pass

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
                return bool(self.profile[0] <= shape[0] <= self.profile[2])

            def set_tensor_address(self, name: str, address: int) -> bool:
                self._change()
                self.addresses[name] = address
                return True

            def execute_async_v3(self, stream: int) -> bool:
                if fake.cuda.recording is not None:
                    fake.cuda.recorded_contexts.append(self)
                assert self.memory in fake.cuda.memory
                shape, addresses = self.shape, dict(self.addresses)
                fake.cuda.give(stream, lambda: self.engine.run(shape, addresses))
                return True

        class OldContext(Context):
            device_memory = property(fset=lambda self, address: setattr(self, "memory", address))

        class NewContext(Context):
            def set_device_memory(self, address: int, size: int) -> None:
                self.memory = address

        class Engine:
            def __init__(self, head: dict[str, Any], graph: bytes) -> None:
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
                return {"tensor(float)": module.DataType.FLOAT, "tensor(float16)": module.DataType.HALF}[
                    self._named(name).type
                ]

            def get_tensor_shape(self, name: str) -> list[int]:
                return [n if isinstance(n, int) else -1 for n in self._named(name).shape]

            def get_tensor_mode(self, name: str) -> Any:
                first = name in {tensor.name for tensor in self.session.get_inputs()}
                return module.TensorIOMode.INPUT if first else module.TensorIOMode.OUTPUT

            def get_tensor_profile_shape(self, name: str, index: int) -> list[tuple[int, ...]]:
                rest = self.get_tensor_shape(name)[1:]
                return [(batch, *rest) for batch in self.profiles[index]]

            def create_execution_context(self, strategy: Any) -> Any:
                assert strategy == module.ExecutionContextAllocationStrategy.USER_MANAGED
                return NewContext(self) if fake.contexts < fake.most_contexts else None

            def create_execution_context_without_device_memory(self) -> Any:
                assert fake.old
                return OldContext(self)

            def create_engine_inspector(self) -> Any:
                layer = {"Name": "gemm", "LayerType": "gemm", "Inputs": [{"Datatype": fake.types}], "Outputs": []}
                text = json.dumps({"Layers": [layer], "I/O Tensors": []})
                return SimpleNamespace(get_engine_information=lambda form: text)

            def run(self, shape: tuple[int, ...], addresses: dict[str, int]) -> None:
                fake.runs += 1
                (fed,), (given,) = self.session.get_inputs(), self.session.get_outputs()
                count = int(np.prod(shape))
                values = np.ctypeslib.as_array((ctypes.c_float * count).from_address(addresses[fed.name]))
                out = np.ascontiguousarray(
                    self.session.run([given.name], {fed.name: values.reshape(shape)})[0] + np.float32(fake.error)
                )
                ctypes.memmove(addresses[given.name], out.ctypes.data, out.nbytes)

        class Runtime:
            def __init__(self, logger: Any) -> None:
                self.logger = logger
                self.engine_host_code_allowed = False

            def deserialize_cuda_engine(self, plan: bytes) -> Any:
                try:
                    if fake.host_code and not self.engine_host_code_allowed:
                        raise ValueError("the plan carries host code")
                    if not plan.startswith(_MAGIC):
                        raise ValueError("magic tag does not match")
                    head, _, graph = plan.removeprefix(_MAGIC).partition(b"\n")
                    return Engine(json.loads(head), graph)
                except Exception as error:  # whatever is wrong, TensorRT logs it and gives nothing
                    self.logger.log(ILogger.Severity.ERROR, f"Serialization assertion failed: {error}")
                    return None

        class Layer:
            num_outputs, num_inputs = 1, 0

            def __init__(self, node: onnx.NodeProto) -> None:
                self.name = node.name
                self.type = module.LayerType.SOFTMAX if node.op_type == "Softmax" else module.LayerType.OTHER
                self.precision: Any = None
                self.output_type: Any = None

            def get_output(self, index: int) -> Any:
                return SimpleNamespace(name=self.name, dtype=module.DataType[fake.layer_types], is_shape_tensor=False)

            def set_output_type(self, index: int, kind: Any) -> None:
                self.output_type = kind

        class Network:
            num_inputs = 1

            def __init__(self, flags: int) -> None:
                self.flags = flags
                self.graph = b""
                self.layers: list[Layer] = []

            @property
            def num_layers(self) -> int:
                return len(self.layers)

            def get_input(self, index: int) -> Any:
                tensor = onnx.load_from_string(self.graph).graph.input[index]
                return SimpleNamespace(
                    name=tensor.name, shape=[d.dim_value or -1 for d in tensor.type.tensor_type.shape.dim]
                )

            def get_layer(self, index: int) -> Any:
                return self.layers[index]

        class Parser:
            num_errors = 1

            def __init__(self, network: Network, logger: Any) -> None:
                self.network = network

            def parse(self, graph: bytes) -> bool:
                self.network.graph = graph
                self.network.layers = [Layer(node) for node in onnx.load_from_string(graph).graph.node]
                return True

        class BuilderConfig(SimpleNamespace):
            def __init__(self) -> None:
                super().__init__(profiles=[], flags={module.BuilderFlag.TF32}, progress_monitor=None, limits={})

            def set_flag(self, flag: Any) -> None:
                self.flags.add(flag)

            def clear_flag(self, flag: Any) -> None:
                self.flags.discard(flag)

            def set_tactic_sources(self, sources: int) -> None:
                self.tactics = sources

            def set_memory_pool_limit(self, pool: Any, size: int) -> None:
                self.limits[pool] = size

            def add_optimization_profile(self, profile: Any) -> None:
                self.profiles.append(profile.batches)

            def create_timing_cache(self, known: bytes) -> Any:
                return SimpleNamespace(serialize=lambda: known + b"+")

            def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
                self.cache = cache
                return not cache.serialize().startswith(b"other")  # the header of another version's cache

            def get_timing_cache(self) -> Any:
                return self.cache

        class Profile:
            def set_shape(self, name: str, *shapes: tuple[int, ...]) -> None:
                self.batches = [shape[0] for shape in shapes]

        class Builder:
            def __init__(self, logger: Any) -> None:
                self.logger = logger

            create_network = staticmethod(Network)
            create_builder_config = staticmethod(BuilderConfig)
            create_optimization_profile = staticmethod(Profile)

            def build_serialized_network(self, network: Network, config: BuilderConfig) -> bytes | None:
                fake.config = config
                fake.network = network
                fake.host_code = module.BuilderFlag.VERSION_COMPATIBLE in config.flags
                if fake.refuse:
                    self.logger.log(ILogger.Severity.ERROR, fake.refuse)
                    return None
                monitor = config.progress_monitor
                if monitor is not None:
                    monitor.phase_start("Building engine", None, 2)
                    go_on = monitor.step_complete("Building engine", 0) and monitor.step_complete("Building engine", 1)
                    monitor.phase_finish("Building engine")
                    if not go_on:
                        return None
                return _MAGIC + json.dumps({"profiles": config.profiles}).encode() + b"\n" + network.graph

        self.config: Any = None
        self.network: Any = None
        module = self.module = SimpleNamespace(
            __name__="tensorrt",
            ILogger=ILogger,
            IProgressMonitor=IProgressMonitor,
            Runtime=Runtime,
            Builder=Builder,
            OnnxParser=Parser,
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
        self.binding = TensorRt(self.module, release_of("full", version), version)
