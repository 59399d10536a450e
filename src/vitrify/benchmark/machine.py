"""Who and where we are, as far as the operating system tells."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import numpy as np

import vitrify
from vitrify.benchmark.report import Machine
from vitrify.machine import available_threads, processor_name

_CLOCK = Path("/sys/devices/system/cpu/cpu0/cpufreq")


def this_machine(*, threads: int | None) -> Machine:
    """Describes the machine as it is now, with the versions of vitrify, Python and NumPy.

    Args:
        threads: That runtimes will be asked for.
    """
    return Machine(
        processor=processor_name(),
        cores=available_threads(),
        threads=threads,
        accelerators=(),
        memory_bytes=_memory_bytes(),
        governor=_text(_CLOCK / "scaling_governor"),
        frequency_mhz=_frequency_mhz(),
        load_average=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        system=f"{platform.system()} {platform.release()}",
        versions={"vitrify": vitrify.__version__, "python": platform.python_version(), "numpy": np.__version__},
    )


def _frequency_mhz() -> float | None:
    khz = _text(_CLOCK / "scaling_cur_freq")
    if khz.isdigit():
        return int(khz) / 1000
    for line in _text(Path("/proc/cpuinfo")).splitlines():
        if line.startswith("cpu MHz"):
            return float(line.partition(":")[2])
    return None


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # no POSIX
        return 0


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
