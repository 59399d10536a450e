"""The stand-in's builder: a plan is a few numbers and the ONNX graph itself."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import onnx

from tests.tensorrt.fake_runtime import MAGIC

if TYPE_CHECKING:
    from tests.tensorrt.fake import FakeTensorRt


def builder_side(fake: FakeTensorRt) -> dict[str, Any]:
    """What makes plans."""

    class Layer:
        num_outputs, num_inputs = 1, 0

        def __init__(self, node: onnx.NodeProto) -> None:
            self.name = node.name
            self.type = fake.module.LayerType.SOFTMAX if node.op_type == "Softmax" else fake.module.LayerType.OTHER
            self.precision: Any = None
            self.output_type: Any = None

        def get_output(self, index: int) -> Any:
            return SimpleNamespace(name=self.name, dtype=fake.module.DataType[fake.layer_types], is_shape_tensor=False)

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
            super().__init__(profiles=[], flags={fake.module.BuilderFlag.TF32}, progress_monitor=None, limits={})

        def set_compute_capability(self, capability: Any, index: int) -> None:
            assert index < self.num_compute_capabilities

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
            fake.host_code = fake.module.BuilderFlag.VERSION_COMPATIBLE in config.flags
            if fake.refuse:
                fake.say(self.logger, "ERROR", fake.refuse)
                return None
            monitor = config.progress_monitor
            if monitor is not None:
                monitor.phase_start("Building engine", None, 2)
                go_on = monitor.step_complete("Building engine", 0) and monitor.step_complete("Building engine", 1)
                monitor.phase_finish("Building engine")
                if not go_on:
                    return None
            return MAGIC + json.dumps({"profiles": config.profiles}).encode() + b"\n" + network.graph

    return {"Builder": Builder, "OnnxParser": Parser}
