"""A weight file becomes Python objects, without ever running code that the file carries."""

from __future__ import annotations

import argparse
import contextlib
import math
import pickle
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from vitrify.errors import CheckpointError

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar", ".npz")

SHARED_TIMES = 4
"""A checkpoint's tensors may be so many times its size: some are saved once and stand under several names."""

INFLATED_TIMES = 100
"""An `.npz` archive may unpack to so many times its size: weights shrink by a tenth, a head of zeros by a thousand."""

_SMALL_BYTES = 64 << 20
_MAX_ENTRIES = 100_000

# Neither zipfile's nor NumPy's nor PyTorch's readers document what they raise on damage; memory is told apart.
_DAMAGED = (
    *(RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError),
    *(zipfile.BadZipFile, zlib.error, struct.error, SyntaxError, NotImplementedError),
)

_SAFE_GLOBALS: list[Any] = [
    # Plain data that training scripts store beside the weights; none of them runs anything when it is made.
    argparse.Namespace,
    np.dtype,
    *(type(np.dtype(name)) for name in ("float32", "float64", "int32", "int64", "bool")),
    *(
        (np.float64(0).__reduce__()[0], f"numpy.{core}.multiarray.scalar")  # named by NumPy 1 and by NumPy 2
        for core in ("core", "_core")
    ),
]


def read_weights(path: Path) -> tuple[Any, dict[str, str]]:
    """Reads one file.

    Args:
        path: `.safetensors`, `.npz`, or what `torch.save` wrote.

    Returns:
        What the file holds (a dict of tensors, perhaps inside other dicts), and its text metadata.

    Raises:
        CheckpointError: No such file, another kind of file, a damaged one, or one that wants to run code.
    """
    if not path.exists():
        raise CheckpointError(f"no such file: {path}", hint="check the path")
    if path.suffix.lower() not in SUFFIXES:
        raise CheckpointError(
            f"cannot tell what {path} is",
            got=f"the suffix {path.suffix!r}",
            expected=f"one of {', '.join(SUFFIXES)}, or a Hugging Face folder",
        )
    if path.stat().st_size == 0:
        raise CheckpointError(f"{path} is empty", got="0 bytes", hint="copy or download it again")
    try:
        if path.suffix.lower() == ".safetensors":
            return _read_safetensors(path)
        if path.suffix.lower() == ".npz":
            return _read_npz(path), {}
        return _read_torch(path), {}
    except (MemoryError, RecursionError) as error:
        raise CheckpointError(
            f"{path} asks for more memory than there is", got=f"{path.stat().st_size} bytes on the disk"
        ) from error


def check_tensors(tensors: Mapping[str, torch.Tensor], path: object, limit_bytes: int) -> None:
    """Refuses tensors that are larger than what a file holds for them: conversions would write them out.

    Args:
        tensors: Of a file that `torch.save` wrote, whose tensors are views: of a storage of a few bytes too.
        path: For messages.
        limit_bytes: For all together.

    Raises:
        CheckpointError: A tensor that repeats its storage, one without values of its own, or too much altogether.
    """
    total = 0
    for name, tensor in tensors.items():
        if tensor.layout is not torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
            kind = "quantised" if tensor.is_quantized else f"{tensor.layout} on {tensor.device}"
            raise CheckpointError(
                f"{path} holds a tensor that is no plain array", got=f"{name}: {kind}", expected="dense tensors"
            )
        needed, held = tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes()
        if needed > held:
            raise CheckpointError(
                f"{path} holds a tensor that repeats a few values",
                got=f"{name} {list(tensor.shape)}: {needed} bytes made of {held}",
                expected="every number of a tensor in the file",
                hint="save it again: {name: tensor.contiguous() for name, tensor in state_dict.items()}",
            )
        total += needed
    if total > limit_bytes:
        raise CheckpointError(
            f"the tensors of {path} are many times larger than the file",
            got=f"{total} bytes",
            expected=f"at most {limit_bytes}, {SHARED_TIMES} times the file",
            hint="save every tensor once",
        )


def _read_safetensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is no safetensors file, or it is truncated",
            got=f"{path.stat().st_size} bytes: {error}",
            hint="copy or download it again; a Git LFS pointer is a short text file that `git lfs pull` replaces",
        ) from error


def _check_npz(path: Path) -> None:
    """Adds up what the arrays' headers say, before an array is read: deflate makes a thousand bytes of one."""
    limit = max(INFLATED_TIMES * path.stat().st_size, _SMALL_BYTES)
    total = 0
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        _check_entries(path, len(entries))
        for entry in entries:
            with archive.open(entry) as file:
                version = np.lib.format.read_magic(file)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(file)
            needed = math.prod(shape) * dtype.itemsize
            if needed > entry.file_size:
                raise ValueError(f"{entry.filename} says {list(shape)} of {dtype} and has {entry.file_size} bytes")
            total += entry.file_size
    if total > limit:
        raise CheckpointError(
            f"{path} unpacks to far more than a checkpoint does",
            got=f"{total} bytes out of {path.stat().st_size}",
            expected=f"at most {limit}: {INFLATED_TIMES} times the file, or {_SMALL_BYTES}",
        )


def _check_torch_zip(path: Path) -> None:
    """`torch.save` stores its entries as they are, so that together they are no larger than the file."""
    if not zipfile.is_zipfile(path):
        return  # the format before PyTorch 1.6, which has no compression either
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    _check_entries(path, len(entries))
    total, size = sum(entry.file_size for entry in entries), path.stat().st_size
    if total > size:
        raise CheckpointError(
            f"{path} unpacks to more than it holds",
            got=f"{total} bytes out of {size}",
            expected="entries that are stored, not compressed, as torch.save writes them",
        )


def _check_entries(path: Path, count: int) -> None:
    if count > _MAX_ENTRIES:
        raise CheckpointError(f"{path} has too many entries", got=count, expected=f"at most {_MAX_ENTRIES}")


def _read_npz(path: Path) -> dict[str, torch.Tensor]:
    try:
        _check_npz(path)
        with np.load(path, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    except _DAMAGED as error:
        raise CheckpointError(
            f"{path} is no .npz archive of arrays, or it is truncated", got=error, hint="copy or download it again"
        ) from error


def _read_torch(path: Path) -> Any:
    with path.open("rb") as file:
        head = file.read(64)
    if head.lstrip()[:1] and all(byte in b"\t\n\r\f" or 32 <= byte < 127 for byte in head):
        raise CheckpointError(
            f"{path} is a text file, no checkpoint",
            got=repr(head[:40].decode()),
            expected="a file that torch.save wrote",
            hint="a Git LFS pointer or a saved web page starts with text: download the file itself",
        )
    try:
        _check_torch_zip(path)
        with _quiet(), torch.serialization.safe_globals(_SAFE_GLOBALS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refused(path, str(error)) from error
    except _DAMAGED as error:
        raise CheckpointError(
            f"{path} is no PyTorch checkpoint, or it is truncated",
            got=f"{path.stat().st_size} bytes: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
            expected="a file that torch.save wrote",
            hint="copy or download it again",
        ) from error


def _refused(path: Path, message: str) -> CheckpointError:
    wanted = re.search(r"GLOBAL ([\w.]+)", message)
    if wanted is None:
        return CheckpointError(
            f"{path} is no PyTorch checkpoint, or it is damaged",
            got=message.strip().splitlines()[-1] if "WeightsUnpickler" not in message else "bytes that are no pickle",
            expected="a file that torch.save wrote",
        )
    name = wanted.group(1)
    what = f"{path} wants to run code, and was refused"
    if ".modules." in name or ".models." in name or name.startswith("__main__"):
        what += ": it holds a whole model object, not a state_dict"
    return CheckpointError(
        what,
        got=f"the pickle calls {name}",
        expected="tensors and plain values only (torch.load with weights_only=True)",
        hint="where you trust the file, load it with its own code and save model.state_dict() to a new file",
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # torch warns of a pickle protocol that torch.save does not write; a file that is wrong gets an error of its own.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
