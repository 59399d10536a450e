"""A weight file becomes Python objects, without ever running code that the file carries."""

from __future__ import annotations

import argparse
import contextlib
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from vitrify.errors import CheckpointError

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar", ".npz")

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
    if path.suffix.lower() == ".safetensors":
        return _read_safetensors(path)
    if path.suffix.lower() == ".npz":
        return _read_npz(path), {}
    return _read_torch(path), {}


def _read_safetensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except SafetensorError as error:
        raise CheckpointError(
            f"{path} is no safetensors file, or it is truncated",
            got=f"{path.stat().st_size} bytes: {error}",
            hint="copy or download it again; a Git LFS pointer is a short text file that `git lfs pull` replaces",
        ) from error


def _read_npz(path: Path) -> dict[str, torch.Tensor]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, TypeError, AttributeError) as error:
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
        with _quiet(), torch.serialization.safe_globals(_SAFE_GLOBALS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refused(path, str(error)) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
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
