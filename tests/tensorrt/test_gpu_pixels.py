"""Images that the GPU prepares, over the stand-ins: the CPU's answers, errors in their place, memory that stays."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cuda.fake_cuda import FakeCuda
from tests.cuda.fake_launcher import FakeLauncher
from tests.pixels.test_batches import encoded, make_spec
from tests.pixels.test_preprocess import picture
from tests.tensorrt.conftest import Machine
from tests.tensorrt.running import VERSIONS, build
from vitrify.classifier import Classifier, Failure, Prediction
from vitrify.cuda import DeviceArray, Tensor
from vitrify.cuda import images as engine_images
from vitrify.cuda.images import ImageStages, preprocessing_cubin
from vitrify.errors import ImageError, MissingExtraError, OptionError, RuntimeFailureError
from vitrify.pixels import Decoders, ImageSource, preprocess
from vitrify.pixels.batches import StoredImage
from vitrify.runtimes.tensorrt import TensorRtRuntime


def mixed(folder: Path) -> list[ImageSource]:
    """Every kind of source, size and orientation, and what cannot be read."""
    tiff, gone, damaged = folder / "a.tif", folder / "gone.jpg", folder / "damaged.jpg"
    Image.fromarray(picture(40, 50, seed=3)).save(tiff)
    good = encoded(picture(80, 60, seed=4), "JPEG", 6)
    damaged.write_bytes(good[: len(good) // 2])
    sources: list[ImageSource] = [
        encoded(picture(30 + 7 * turn, 90 - 5 * turn, seed=turn), kind, turn)
        for turn, kind in zip(range(1, 9), itertools.cycle(("JPEG", "PNG", "WEBP")), strict=False)
    ]
    return [*sources[:3], gone, *sources[3:], damaged, picture(200, 31), Image.fromarray(picture(33, 44)), tiff, b"no"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("batch_size", [1, 3, 16, 40])
def test_answers_are_the_cpus(machine: Machine, artifact: Path, tmp_path: Path, version: str, batch_size: int) -> None:
    machine.use(FakeCuda(), version)
    engine, sources = build(artifact, tmp_path), mixed(tmp_path)
    with (
        Classifier(engine, batch_size=batch_size, threads=2) as gpu,
        Classifier(engine, batch_size=batch_size, threads=2, pixels="cpu") as cpu,
    ):
        assert (gpu.pixels_on_gpu, cpu.pixels_on_gpu) == (True, False)
        for _ in range(2):
            for one, other in zip(gpu.stream(sources), cpu.stream(sources), strict=True):
                assert (one.source, type(one)) == (other.source, type(other))
                if isinstance(one, Failure) and isinstance(other, Failure):
                    assert str(one.error) == str(other.error)
                if isinstance(one, Prediction) and isinstance(other, Prediction):
                    np.testing.assert_allclose(one.logits, other.logits, rtol=1e-4, atol=1e-5)
        assert max(machine.launcher.launched) <= min(batch_size, 16)
    assert not machine.cuda.memory
    assert not machine.launcher.modules
    assert list(machine.cuda.queues) == [0]


def test_a_static_engine_pads_its_last_batch(machine: Machine, artifact: Path, tmp_path: Path) -> None:
    sources = [picture(40 + number, 50, seed=number) for number in range(7)]
    with Classifier(build(artifact, tmp_path, "4")) as gpu, Classifier(artifact, runtime="onnxruntime") as truth:
        for one, other in zip(gpu(sources), truth(sources), strict=True):
            np.testing.assert_allclose(one.logits, other.logits, rtol=1e-3, atol=1e-4)
    assert sorted(machine.launcher.launched) == [3, 4]  # side by side


def test_warm_batches_allocate_nothing(machine: Machine, artifact: Path, tmp_path: Path) -> None:
    with TensorRtRuntime(build(artifact, tmp_path)) as runtime:
        spec, decoders = runtime.spec, Decoders(2)

        def once(count: int) -> None:
            sources = [picture(60, 70, seed=number) for number in range(count)]
            opened = [one for one in decoders.open(sources, spec.preprocess) if isinstance(one, StoredImage)]
            runtime.infer_images(opened, spec, decoders)

        for _ in range(3):
            once(8)
        before = machine.cuda.allocations
        for count in (8, 3, 8):
            once(count)
        assert machine.cuda.allocations == before


def test_an_endless_source_is_read_a_few_batches_ahead(machine: Machine, artifact: Path, tmp_path: Path) -> None:
    taken = []

    def endless() -> Iterator[ImageSource]:
        for number in itertools.count():
            taken.append(number)
            yield picture(40, 50, seed=number % 5)

    with Classifier(build(artifact, tmp_path), batch_size=2) as classifier:
        answers = list(itertools.islice(classifier.stream(endless()), 9))
        assert [answer.source for answer in answers] == [f"image {number}" for number in range(9)]
        assert len(taken) <= 9 + 1 + 4 * 2


def test_threads_share_a_classifier(machine: Machine, artifact: Path, tmp_path: Path) -> None:
    sources = [[picture(40, 50, seed=10 * caller + number) for number in range(5)] for caller in range(4)]
    with Classifier(build(artifact, tmp_path), batch_size=2) as classifier:
        alone = [[answer.logits for answer in classifier(images)] for images in sources]
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            together = [[answer.logits for answer in answers] for answers in pool.map(classifier, sources)]
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_what_the_engine_reads_is_the_cpus_tensor(dtype: str) -> None:
    cuda, spec, decoders = FakeCuda(), make_spec(crop=(48, 30)), Decoders(2)
    source = Tensor(name="image", dtype=dtype, shape=(3, 30, 48), is_input=True)
    target = Tensor(name="same", dtype=dtype, shape=(3, 30, 48), is_input=False)
    stages = ImageStages(
        cuda, FakeLauncher(cuda), preprocessing_cubin("8.6"), source=source, target=target, largest=4, spec=spec
    )
    arrays = [picture(100, 60), picture(20, 30), picture(50, 300)]

    def infer(given: DeviceArray, stream: int, into: DeviceArray) -> None:
        assert (given.shape, given.dtype) == ((4, 3, 30, 48), dtype)
        cuda.copy(into.address, given.address, source.size(4), stream)

    with stages.lend() as stage:
        opened = [one for one in decoders.open(arrays, spec) if isinstance(one, StoredImage)]
        assert stage.decode(opened, decoders) == [None] * 3
        np.testing.assert_array_equal(stage.infer(4, infer), preprocess(arrays, spec).astype(dtype))
    stages.close()
    assert not cuda.memory


def test_a_stage_that_failed_is_not_lent_again(machine: Machine, artifact: Path, tmp_path: Path) -> None:
    with TensorRtRuntime(build(artifact, tmp_path)) as runtime:
        spec, decoders = runtime.spec, Decoders(1)
        (image,) = decoders.open([picture(9, 9)], spec.preprocess)
        assert not isinstance(image, ImageError)
        with pytest.raises(RuntimeFailureError, match="too many images"):
            runtime.infer_images([image] * 17, spec, decoders)
        memory = len(machine.cuda.memory)
        (image,) = decoders.open([picture(9, 9)], spec.preprocess)
        assert not isinstance(image, ImageError)
        assert runtime.infer_images([image], spec, decoders)[0].shape == (1, 6)
        assert len(machine.cuda.memory) == memory + 5


def test_without_nvrtc_auto_takes_the_cpu_and_gpu_is_an_error(
    machine: Machine, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(capability: str) -> bytes:
        raise MissingExtraError("no NVRTC", extra="tensorrt", package="nvidia-cuda-nvrtc")

    path = build(artifact, tmp_path)
    monkeypatch.setattr(engine_images, "preprocessing_cubin", missing)
    with Classifier(path) as classifier:
        assert not classifier.pixels_on_gpu
        assert classifier([picture(40, 50)])[0].label in classifier.labels
    with pytest.raises(MissingExtraError, match="nvidia-cuda-nvrtc"):
        Classifier(path, pixels="gpu")


def test_a_runtime_without_a_gpu_refuses_its_pixels(artifact: Path) -> None:
    with pytest.raises(OptionError, match=r"onnxruntime runtime has no option pixels[\s\S]*runtime tensorrt"):
        Classifier(artifact, runtime="onnxruntime", pixels="gpu")


def test_an_engine_of_another_shape_is_refused(machine: Machine, artifact: Path, tmp_path: Path) -> None:
    with TensorRtRuntime(build(artifact, tmp_path)) as runtime:
        spec = runtime.spec
        spec = spec.replace(
            preprocess=make_spec(crop=(48, 30)), input=dataclasses.replace(spec.input, height=30, width=48)
        )
        with pytest.raises(RuntimeFailureError, match=r"\[3, 32, 32\][\s\S]*\[3, 30, 48\][\s\S]*--pixels cpu"):
            runtime.infer_images([], spec, Decoders(1))
