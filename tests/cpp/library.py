"""libvitrify's C interface for Python: what another language's binding would look like."""

from __future__ import annotations

import ctypes
import os
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from typing_extensions import Self

OK, GATE_FAILED, BAD_ARGUMENT, BAD_OPTION, BAD_IMAGE, BAD_ARTIFACT, BAD_SPEC, RUNTIME_FAILED, FAILED = range(9)

Floats = npt.NDArray[np.float32]


class Options(ctypes.Structure):
    """vitrify_options."""

    _fields_ = (
        ("struct_size", ctypes.c_size_t),
        ("runtime", ctypes.c_char_p),
        ("precision", ctypes.c_char_p),
        ("cache_folder", ctypes.c_char_p),
        ("threads", ctypes.c_int32),
        ("streams", ctypes.c_int32),
        ("self_test", ctypes.c_char_p),
        ("max_bytes", ctypes.c_int64),
        ("max_pixels", ctypes.c_int64),
        ("max_ratio", ctypes.c_int64),
        ("max_memory", ctypes.c_int64),
        ("max_scan_pixels", ctypes.c_int64),
    )


class Score(ctypes.Structure):
    """vitrify_score."""

    _fields_ = (("index", ctypes.c_int32), ("probability", ctypes.c_double))


class StatusError(Exception):
    """A call that did not return VITRIFY_OK."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Library:
    """The functions of a loaded libvitrify.so."""

    def __init__(self, functions: ctypes.CDLL) -> None:
        self.functions = functions
        functions.vitrify_last_error.restype = ctypes.c_char_p
        functions.vitrify_version.restype = ctypes.c_char_p
        functions.vitrify_label.restype = ctypes.c_char_p
        functions.vitrify_label.argtypes = [ctypes.c_void_p, ctypes.c_int32]
        functions.vitrify_label_count.argtypes = [ctypes.c_void_p]
        functions.vitrify_free.argtypes = [ctypes.c_void_p]

    def check(self, status: int) -> None:
        if status != OK:
            raise StatusError(status, self.functions.vitrify_last_error().decode(errors="replace"))

    def load(self, path: str | os.PathLike[str], **options: bytes | int) -> Handle:
        pointer = ctypes.c_void_p()
        self.check(
            self.functions.vitrify_load(
                os.fsencode(path),
                ctypes.byref(Options(struct_size=ctypes.sizeof(Options), **options)) if options else None,
                ctypes.byref(pointer),
            )
        )
        return Handle(self, pointer)


class Handle:
    """An open classifier; a context manager."""

    def __init__(self, library: Library, pointer: ctypes.c_void_p) -> None:
        self.library = library
        self.pointer = pointer
        count = library.functions.vitrify_label_count(pointer)
        self.labels = tuple(library.functions.vitrify_label(pointer, i).decode() for i in range(count))
        height, width = ctypes.c_int32(), ctypes.c_int32()
        library.functions.vitrify_input_size(pointer, ctypes.byref(height), ctypes.byref(width))
        self.shape = (3, height.value, width.value)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.library.functions.vitrify_free(self.pointer)

    def classify(self, image: bytes | str | npt.NDArray[np.uint8]) -> dict[str, float]:
        """Encoded bytes, a path or `[H, W, 3]` pixels to the probability of each label, best first."""
        functions, scores, count = self.library.functions, (Score * len(self.labels))(), len(self.labels)
        if isinstance(image, bytes):
            status = functions.vitrify_classify_encoded(self.pointer, image, ctypes.c_size_t(len(image)), scores, count)
        elif isinstance(image, str):
            status = functions.vitrify_classify_file(self.pointer, os.fsencode(image), scores, count)
        else:
            pixels = np.ascontiguousarray(image)
            status = functions.vitrify_classify_rgb(
                self.pointer, ctypes.c_void_p(pixels.ctypes.data), *pixels.shape[:2], scores, count
            )
        self.library.check(status)
        return {self.labels[score.index]: score.probability for score in scores}

    def preprocess(self, data: bytes) -> Floats:
        """Encoded bytes to `[3, H, W]`."""
        tensor = np.empty(self.shape, np.float32)
        self.library.check(
            self.library.functions.vitrify_preprocess_encoded(
                self.pointer, data, ctypes.c_size_t(len(data)), ctypes.c_void_p(tensor.ctypes.data)
            )
        )
        return tensor

    def infer(self, tensors: Floats) -> Floats:
        """`[B, 3, H, W]` to `[B, labels]`."""
        logits = np.empty((len(tensors), len(self.labels)), np.float32)
        self.library.check(
            self.library.functions.vitrify_infer(
                self.pointer,
                ctypes.c_void_p(np.ascontiguousarray(tensors).ctypes.data),
                ctypes.c_size_t(len(tensors)),
                ctypes.c_void_p(logits.ctypes.data),
            )
        )
        return logits

    def verify(self) -> float:
        """The largest error of a golden logit."""
        error = ctypes.c_double()
        self.library.check(self.library.functions.vitrify_verify(self.pointer, ctypes.byref(error)))
        return error.value
