"""Kernels that TensorRT-RTX compiled while an engine ran, kept on disk for the next process.

TensorRT-RTX finishes its kernels on the GPU that runs them, when a context first meets a shape. Its runtime cache holds
the results: https://docs.nvidia.com/deeplearning/tensorrt-rtx/latest/inference-library/work-with-runtime-cache.html
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from vitrify.errors import StorageError
from vitrify.files import atomic_write


class KernelCache:
    """One `IRuntimeCache` for all contexts of an open engine.

    Args:
        path: Its file; one that is not there, cannot be read or is refused counts as empty.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known = b""
        self._cache: Any = None
        self._first: Any = None

    def config_for(self, engine: Any, strategy: Any) -> Any:
        """An `IRuntimeConfig` for a new context. Not for several threads at once.

        Args:
            engine: The `ICudaEngine`.
            strategy: Who gives the context its memory.
        """
        config = engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(strategy)
        if self._cache is None:
            self._first, self._cache = config, config.create_runtime_cache()
            with contextlib.suppress(OSError):
                self._known = self._path.read_bytes()
            # TensorRT-RTX holds it to its own version, the GPU and the driver, and leaves the cache empty where one
            # differs.
            if self._cache is not None and self._known and not self._cache.deserialize(self._known):
                self._known = b""
        if self._cache is not None:
            config.set_runtime_cache(self._cache)
        return config

    def save(self) -> None:
        """Keeps what is known by now; that it cannot be kept is no reason to fail what ran."""
        content = self._cache.serialize() if self._cache is not None else None
        if content is None or bytes(content) == self._known:
            return
        with contextlib.suppress(OSError, StorageError):
            atomic_write(self._path, bytes(content))
            self._known = bytes(content)
