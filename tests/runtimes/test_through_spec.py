"""Which batches a runtime is given, and that every answer is its own image's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import tiny_spec
from vitrify.artifacts import Profile
from vitrify.errors import ArtifactError, RuntimeFailureError
from vitrify.runtimes import Runtime, Signature, TensorInfo, check_outputs, infer_logits
from vitrify.runtimes.base import Array


class Summing(Runtime):
    """Gives each image's sum, for batches of certain sizes only."""

    name = "summing"

    def __init__(self, *profiles: str, path: str = "m.engine") -> None:
        super().__init__(path)
        self.accepted = tuple(map(Profile.parse, profiles))
        self.ran: list[int] = []

    def _open(self) -> None: ...

    def _close(self) -> None: ...

    def _describe(self) -> Signature:
        return Signature(
            inputs=(TensorInfo(name="image", dtype="float32", shape=(None, 3, 32, 32)),),
            outputs=(TensorInfo(name="logits", dtype="float32", shape=(None, 1)),),
            batches=tuple((profile.min, profile.max) for profile in self.accepted),
        )

    def _infer(self, batch: dict[str, Array]) -> dict[str, Array]:
        self.ran.append(len(batch["image"]))
        assert any(self.ran[-1] in profile for profile in self.accepted)
        return {"logits": batch["image"].sum((1, 2, 3))[:, None]}


def images(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    rng = np.random.default_rng(count)
    return rng.integers(0, 9, (count, 1, 1, 1)).astype(np.float32) + np.zeros((1, 3, 32, 32), np.float32)


@pytest.mark.parametrize(
    ("profiles", "count", "ran"),
    [
        (["1:8:64"], 65, [64, 1]),
        (["1:8:64"], 200, [64, 64, 64, 8]),
        (["4"], 7, [4, 4]),
        (["2:4:8", "16"], 1, [2]),
        (["2:4:8", "16"], 9, [16]),
        (["2:4:8", "16"], 33, [16, 16, 2]),
        (["2:4:8"], 17, [8, 8, 2]),
    ],
)
def test_no_more_is_padded_than_has_to_be(profiles: list[str], count: int, ran: list[int]) -> None:
    with Summing(*profiles) as runtime:
        tensors = images(count)
        np.testing.assert_array_equal(infer_logits(runtime, tiny_spec(("sum",)), tensors)[:, 0], tensors.sum((1, 2, 3)))
        assert runtime.ran == ran


@given(
    count=st.integers(1, 150),
    sizes=st.lists(st.tuples(st.integers(1, 20), st.integers(0, 20)), min_size=1, max_size=3),
)
def test_any_number_of_images_on_any_profiles(count: int, sizes: list[tuple[int, int]]) -> None:
    profiles = [f"{low}:{low}:{low + more}" for low, more in sizes]
    with Summing(*profiles) as runtime:
        tensors = images(count)
        np.testing.assert_array_equal(infer_logits(runtime, tiny_spec(("sum",)), tensors)[:, 0], tensors.sum((1, 2, 3)))
        assert sum(runtime.ran) - count < max(profile.min for profile in runtime.accepted)


def test_none_is_refused_as_by_every_runtime() -> None:
    with Summing("1:8:64") as runtime, pytest.raises(RuntimeFailureError, match=r"\[0, 3, 32, 32\]"):
        infer_logits(runtime, tiny_spec(), images(1)[:0])


@pytest.mark.parametrize(
    ("path", "hint"), [("m.onnx", "export the artifact again"), ("m.engine", r"vitrify build m\.engine --rebuild")]
)
def test_a_graph_of_another_model_says_how_to_go_on(path: str, hint: str) -> None:
    says = rf"disagree[\s\S]*\[B, 6\][\s\S]*hint: {hint}"
    with Summing("1", path=path) as runtime, pytest.raises(ArtifactError, match=says):
        check_outputs(runtime, tiny_spec())
