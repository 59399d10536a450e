"""Kernel times on disk, so that the second build of a model takes seconds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from vitrify.engines.config import BuildConfig
from vitrify.engines.gpu import Gpu
from vitrify.engines.releases import TensorRt
from vitrify.errors import StorageError
from vitrify.files import atomic_write
from vitrify.machine import cache_folder
from vitrify.progress import Progress


def timing_cache_path(config: BuildConfig, trt: TensorRt, gpu: Gpu) -> Path | None:
    """The file for this version and GPU, or None where nothing is kept.

    A time measured by another build of TensorRT or on another GPU says nothing, so that both are in the name.
    """
    return _cache_path(config.timing_cache, trt, gpu, "timing") if trt.release.timing_cache else None


def kernel_cache_path(folder: str, trt: TensorRt, gpu: Gpu) -> Path | None:
    """The file of kernels that were compiled while an engine ran, or None where nothing is kept.

    Args:
        folder: `auto`, `none` or a folder, as `BuildConfig.timing_cache`.
        trt: The binding.
        gpu: The GPU.
    """
    return _cache_path(folder, trt, gpu, "kernels") if trt.release.runtime_cache else None


def _cache_path(folder: str, trt: TensorRt, gpu: Gpu, suffix: str) -> Path | None:
    if folder == "none":
        return None
    parent = cache_folder() / "tensorrt" if folder == "auto" else Path(folder)
    key = f"{trt.version}-{gpu.name}-sm{gpu.compute_capability.replace('.', '')}"
    return parent / f"{re.sub(r'[^A-Za-z0-9.]+', '_', key)}.{suffix}"


def load_timing_cache(builder_config: Any, path: Path, progress: Progress) -> None:
    """Gives a build the times that are known; a file that cannot be read, or that TensorRT refuses, counts as none."""
    known = b""
    try:
        known = path.read_bytes()
    except FileNotFoundError:
        pass
    except OSError as error:
        progress.say(f"kernel times cannot be read from {path}: {error.strerror or error}")
    cache = builder_config.create_timing_cache(known)
    if cache is None or not builder_config.set_timing_cache(cache, False):
        builder_config.set_timing_cache(builder_config.create_timing_cache(b""), False)


def save_timing_cache(builder_config: Any, path: Path, progress: Progress) -> None:
    """Keeps the times for the next build; that they cannot be kept is no reason to lose this one."""
    cache = builder_config.get_timing_cache()
    if cache is None:
        return
    try:
        atomic_write(path, bytes(cache.serialize()))
    except (OSError, StorageError) as error:
        progress.say(f"kernel times are not kept: {error}")
