"""The C interface through ctypes: statuses, messages, threads."""

from __future__ import annotations

import ctypes
import json
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import onnx
import pytest

import vitrify
from tests.cpp.conftest import GOLDEN, ROOT
from tests.cpp.library import (
    BAD_ARGUMENT,
    BAD_ARTIFACT,
    BAD_IMAGE,
    BAD_OPTION,
    BAD_SPEC,
    GATE_FAILED,
    OK,
    RUNTIME_FAILED,
    Library,
    Options,
    StatusError,
)
from vitrify import _native
from vitrify.artifacts import read_spec
from vitrify.graphs import write_artifact
from vitrify.spec import SPEC_KEY

IMAGE = GOLDEN / "images" / "rgb.jpg"


def refusal(library: Library, path: Path | str, **options: bytes | int) -> StatusError:
    with pytest.raises(StatusError) as refused:
        library.load(path, **options)
    return refused.value


def test_the_version_is_pythons(library: Library) -> None:
    assert library.functions.vitrify_version().decode() == vitrify.__version__


def test_files_that_are_no_artifact(library: Library, tmp_path: Path) -> None:
    good = (GOLDEN / "tiny.onnx").read_bytes()
    truncated = tmp_path / "truncated.onnx"
    truncated.write_bytes(good[: len(good) // 2])
    assert refusal(library, "nowhere.onnx").status == BAD_ARTIFACT
    assert refusal(library, tmp_path).status == BAD_ARTIFACT
    assert refusal(library, GOLDEN / "tiny.json").status == BAD_ARTIFACT
    error = refusal(library, truncated)
    assert error.status == BAD_ARTIFACT
    assert "truncated" in str(error)
    assert "hint: copy or export it again" in str(error)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (b'"version":2', b'"version":9', "newer"),
        (b'"bicubic"', b'"bicubik"', "spec.preprocess.interpolation"),
        (b'"crop_height":32', b'"crop_height":31', "disagree"),
        (SPEC_KEY.encode(), b"vitrify.spek", "carries no model spec"),
    ],
)
def test_specs_that_cannot_be_used(library: Library, tmp_path: Path, old: bytes, new: bytes, says: str) -> None:
    good = (GOLDEN / "tiny.onnx").read_bytes()
    assert old in good
    changed = tmp_path / "changed.onnx"
    changed.write_bytes(good.replace(old, new))
    error = refusal(library, changed)
    assert error.status == BAD_SPEC
    assert says in str(error)


def test_options(library: Library) -> None:
    path = GOLDEN / "tiny.onnx"
    for options, says in (
        ({"runtime": b"abacus"}, "openvino"),
        ({"precision": b"fp64"}, "fp64"),
        ({"precision": b"int8"}, "fp32 or bf16"),
        ({"threads": -1}, "threads"),
        ({"streams": -2}, "streams"),
        ({"self_test": b"often"}, "auto, always, never"),
    ):
        error = refusal(library, path, **options)
        assert error.status == BAD_OPTION
        assert says in str(error)


def test_a_graph_and_a_spec_that_disagree(library: Library, tiny: Path) -> None:
    model = onnx.load(tiny)
    model.graph.output[0].name = model.graph.node[-1].output[0] = "scores"
    onnx.save(model, tiny)
    error = refusal(library, tiny)
    assert error.status == BAD_ARTIFACT
    assert "disagree" in str(error)
    assert "logits" in str(error)


def test_a_graph_that_the_engine_refuses(library: Library, tiny: Path) -> None:
    model = onnx.load(tiny)
    model.graph.node[0].op_type = "Abacus"
    onnx.save(model, tiny)
    error = refusal(library, tiny)
    assert error.status == BAD_ARTIFACT  # before OpenVINO sees it
    assert "Abacus" in str(error)
    model.graph.node[0].op_type = "Softmax"  # known, and no product of two tensors
    onnx.save(model, tiny)
    assert refusal(library, tiny).status == RUNTIME_FAILED


def test_verify_notices_a_changed_weight(library: Library, tiny: Path) -> None:
    model = onnx.load(tiny)
    largest = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    values = onnx.numpy_helper.to_array(largest).copy()
    values.flat[0] += 10
    largest.CopyFrom(onnx.numpy_helper.from_array(values, largest.name))
    onnx.save(model, tiny)
    with library.load(tiny, precision=b"fp32", self_test=b"never") as native, pytest.raises(StatusError) as failed:
        native.verify()
    assert failed.value.status == BAD_ARTIFACT
    assert "not the file that was written" in str(failed.value)
    assert refusal(library, tiny, precision=b"fp32").status == BAD_ARTIFACT
    write_artifact(model, read_spec(tiny), tiny)  # then only its answers give it away
    with library.load(tiny, precision=b"fp32", self_test=b"never") as native, pytest.raises(StatusError) as failed:
        native.verify()
    assert failed.value.status == GATE_FAILED
    error = refusal(library, tiny, precision=b"fp32")
    assert error.status == GATE_FAILED
    assert "openvino" in str(error)
    assert "golden vector" in str(error)


def test_a_verdict_is_kept_for_the_file(library: Library, tiny: Path, verdicts: Path) -> None:
    for options in ({}, {"self_test": b"auto"}, {"self_test": b"always"}, {"threads": 1}, {"streams": 2}):
        with library.load(tiny, precision=b"fp32", **options) as native:
            assert native.verify() < 1e-3
        (kept,) = verdicts.iterdir()
    stale = json.loads(kept.read_text())
    assert stale["passed"]
    assert stale["key"].startswith("program=c++\n")
    assert f"instruction_sets={' '.join(_native.instruction_sets())}\n" in stale["key"]
    # A verdict excuses its own file and no other.
    test_verify_notices_a_changed_weight(library, tiny)
    assert list(verdicts.iterdir()) == [kept]


def test_images(library: Library) -> None:
    with library.load(GOLDEN / "tiny.onnx") as native:
        for image, says in ((b"text", "not an image"), ("gone.jpg", "gone.jpg"), (IMAGE.read_bytes()[:300], "damaged")):
            with pytest.raises(StatusError, match=says) as refused:
                native.classify(image)
            assert refused.value.status == BAD_IMAGE
        with pytest.raises(StatusError):
            native.classify(np.zeros((0, 4, 3), np.uint8))


def test_a_golden_logit_that_float32_does_not_hold(library: Library, tiny: Path) -> None:
    model = onnx.load_from_string((GOLDEN / "tiny.onnx").read_bytes())
    spec = re.sub(r'"logits":\[[\d.-]+,', '"logits":[1e39,', read_spec(tiny).to_json(), count=1)
    onnx.helper.set_model_props(model, {SPEC_KEY: spec})
    onnx.save(model, tiny)
    error = refusal(library, tiny)
    assert error.status == BAD_SPEC
    assert "spec.golden[0].logits[0]" in str(error)


def test_a_spec_of_another_type_than_the_graph(library: Library, tiny: Path) -> None:
    model = onnx.load(tiny)
    onnx.helper.set_model_props(model, {SPEC_KEY: read_spec(tiny).to_json().replace('"float32"', '"float16"')})
    onnx.save(model, tiny)
    error = refusal(library, tiny)
    assert error.status == BAD_ARTIFACT
    assert "image f16" in str(error)


def test_options_of_another_size_are_refused(library: Library) -> None:
    pointer = ctypes.c_void_p()
    first = Options.self_test.offset  # where the first version ended: its programs go on
    options = Options(struct_size=first, self_test=b"is not read")
    assert (
        library.functions.vitrify_load(bytes(GOLDEN / "tiny.onnx"), ctypes.byref(options), ctypes.byref(pointer)) == OK
    )
    library.functions.vitrify_free(pointer)
    options = Options(struct_size=Options.max_bytes.offset, max_bytes=1)  # and the second
    assert (
        library.functions.vitrify_load(bytes(GOLDEN / "tiny.onnx"), ctypes.byref(options), ctypes.byref(pointer)) == OK
    )
    library.functions.vitrify_free(pointer)
    for size in (0, first - 8, ctypes.sizeof(Options) - 1, ctypes.sizeof(Options) + 8):
        options = Options(struct_size=size)
        status = library.functions.vitrify_load(
            bytes(GOLDEN / "tiny.onnx"), ctypes.byref(options), ctypes.byref(pointer)
        )
        assert status == BAD_ARGUMENT


def test_null_pointers_and_counts(library: Library) -> None:
    functions = library.functions
    scores = (ctypes.c_double * 4)()
    assert functions.vitrify_load(None, None, None) == BAD_ARGUMENT
    assert functions.vitrify_load(b"a.onnx", None, None) == BAD_ARGUMENT
    assert functions.vitrify_classify_file(None, b"a.jpg", scores, 1) == BAD_ARGUMENT
    assert functions.vitrify_verify(None, None) == BAD_ARGUMENT
    assert functions.vitrify_label_count(None) == 0
    assert functions.vitrify_label(None, 0) is None
    functions.vitrify_free(None)
    with library.load(GOLDEN / "tiny.onnx") as native:
        for count in (0, -1, len(native.labels) + 1):
            status = functions.vitrify_classify_file(native.pointer, bytes(IMAGE), scores, count)
            assert status == BAD_ARGUMENT
        assert functions.vitrify_classify_file(native.pointer, bytes(IMAGE), None, 1) == BAD_ARGUMENT
        assert functions.vitrify_label(native.pointer, len(native.labels)) is None
        assert functions.vitrify_label(native.pointer, -1) is None


def test_a_classifier_that_was_freed(library: Library) -> None:
    functions = library.functions
    native = library.load(GOLDEN / "tiny.onnx")
    tensor = np.zeros((1, *native.shape), np.float32)
    with native:
        native.infer(tensor)
    for use in (
        lambda: native.classify(str(IMAGE)),
        lambda: native.classify(IMAGE.read_bytes()),
        lambda: native.preprocess(IMAGE.read_bytes()),
        lambda: native.infer(tensor),
        native.verify,
    ):
        with pytest.raises(StatusError, match="it was freed") as refused:
            use()
        assert refused.value.status == BAD_ARGUMENT
    assert functions.vitrify_label_count(native.pointer) == 0
    assert functions.vitrify_label(native.pointer, 0) is None
    functions.vitrify_free(native.pointer)


def test_freed_while_others_use_it(library: Library) -> None:
    """A call that is under way ends well; those after it are refused."""
    native = library.load(GOLDEN / "tiny.onnx", streams=2)
    statuses: list[int] = []

    def work() -> None:
        while True:
            try:
                native.classify(str(IMAGE))
            except StatusError as error:
                statuses.append(error.status)
                return

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    library.functions.vitrify_free(native.pointer)
    for thread in threads:
        thread.join()
    assert statuses == [BAD_ARGUMENT] * 3


FORK = """
import os, sys
sys.path.insert(0, "")
import ctypes
from tests.cpp.library import BAD_ARGUMENT, Library, StatusError
library = Library(ctypes.CDLL(sys.argv[1]))
native = library.load(sys.argv[2])
expected = native.classify(sys.argv[3])
child = os.fork()
if child == 0:
    try:
        native.classify(sys.argv[3])
    except StatusError as error:
        assert error.status == BAD_ARGUMENT, error
        assert "another process" in str(error), error
    else:
        raise AssertionError("the parent's classifier was used")
    library.functions.vitrify_free(native.pointer)
    os._exit(7)  # OpenVINO's own clean-up, and opening it anew, may wait for threads that stayed with the parent
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert native.classify(sys.argv[3]) == expected
"""


def test_a_forked_process_is_told(library: Library, release: Path) -> None:
    arguments = [next(release.glob("lib*/libvitrify.so")), GOLDEN / "tiny.onnx", IMAGE]
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORK, *arguments], cwd=ROOT, check=True, timeout=120)


SIGNALLED = """
import faulthandler, os, signal, sys, threading
sys.path.insert(0, "")
import ctypes
from tests.cpp.library import Library
faulthandler.enable()
library = Library(ctypes.CDLL(sys.argv[1]))
opened = [library.load(sys.argv[2]) for _ in range(2)]
for native in opened:
    freed = threading.Thread(target=library.functions.vitrify_free, args=(native.pointer,))
    freed.start()
    freed.join()
got = []
signal.signal(signal.SIGUSR1, lambda number, frame: got.append(number))
os.kill(os.getpid(), signal.SIGUSR1)
assert got == [signal.SIGUSR1]
os._exit(7)
"""


def test_a_signal_is_handled_after_other_threads_freed_what_this_one_opened(library: Library, release: Path) -> None:
    arguments = [next(release.glob("lib*/libvitrify.so")), GOLDEN / "tiny.onnx"]
    ended = subprocess.run([sys.executable, "-W", "ignore", "-c", SIGNALLED, *arguments], check=False, cwd=ROOT)
    assert ended.returncode == 7


@pytest.mark.parametrize("streams", [1, 3])
def test_many_threads_share_a_classifier(library: Library, streams: int) -> None:
    images = [path.read_bytes() for path in sorted((GOLDEN / "images").iterdir())]
    with library.load(GOLDEN / "tiny.onnx", precision=b"fp32", streams=streams) as native:
        expected = [native.classify(image) for image in images]
        wrong: list[int] = []

        def work(offset: int) -> None:
            for i in range(len(images)):
                at = (i + offset) % len(images)
                answer = native.classify(images[at])
                if any(abs(answer[label] - expected[at][label]) > 1e-6 for label in answer):
                    wrong.append(at)

        threads = [threading.Thread(target=work, args=(9 * number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong


def test_each_thread_has_its_own_message(library: Library) -> None:
    messages = {}
    barrier = threading.Barrier(2)

    def fail(path: str) -> None:
        with pytest.raises(StatusError):
            library.load(path)
        barrier.wait()
        messages[path] = library.functions.vitrify_last_error().decode()

    threads = [threading.Thread(target=fail, args=(path,)) for path in ("one.onnx", "two.onnx")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(path in message for path, message in messages.items())
    assert len(messages) == 2


def test_damaged_artifacts_are_errors_or_work(library: Library, tmp_path: Path) -> None:
    """Bytes flipped at random, in the wire format, the spec and the weights: a status each, never a crash."""
    good = (GOLDEN / "tiny.onnx").read_bytes()
    rng = np.random.default_rng(3)
    path = tmp_path / "damaged.onnx"
    for number in range(150):
        data = bytearray(good)
        for at in rng.integers(0, len(data), rng.integers(1, 5)):
            data[at] = rng.integers(0, 256)
        path.write_bytes(data)
        try:
            with library.load(path, self_test=(b"auto", b"never")[number % 2]) as native:
                native.classify(str(IMAGE))
        except StatusError as error:
            assert error.status in (BAD_ARTIFACT, BAD_SPEC, RUNTIME_FAILED, BAD_OPTION, GATE_FAILED)  # noqa: PT017
