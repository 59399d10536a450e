"""What this machine is: cores, instruction sets, and the folder where vitrify keeps what it has found out here.

The core that C++ shares answers, so that both languages see the same machine.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path

from vitrify import _native


def available_threads() -> int:
    """Cores that this process may use: by its affinity and by its control group's quota, rounded up; at least 1."""
    return _native.available_threads()


def quota_threads() -> int | None:
    """What to tell libraries that see the affinity alone: the threads that the quota allows, where it allows fewer."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    allowed = available_threads()
    return allowed if allowed < cores else None


def processor_name() -> str:
    """The processor as it names itself, or its architecture where it does not."""
    return _native.processor_name() or platform.processor() or platform.machine()


def instruction_sets() -> tuple[str, ...]:
    """Those that decide how networks are computed, such as `avx2`, `avx512_vnni`, `amx_int8`, named as Linux does."""
    return tuple(_native.instruction_sets())


def saturates_8bit() -> bool:
    """Whether 8-bit products saturate here: on x86-64 without a dot product of bytes (VNNI, AMX).

    `vitrify.graphs.saturation` has what that means.
    """
    return _native.saturates_8bit()


def cache_folder() -> Path:
    """Where what was found out on this machine is kept: `$VITRIFY_CACHE`, else `vitrify` in the user's cache folder."""
    own = os.environ.get("VITRIFY_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vitrify"
