"""What this processor multiplies quickly, as far as it decides which precision pays here."""

from __future__ import annotations

from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_FAST_8_BIT_PRODUCTS = {"avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8", "asimddp", "i8mm"}
"""Linux' names of instructions that multiply 8 bits into 32: VNNI and AMX on x86, dot products on Arm."""


def lacks_fast_8_bits() -> bool:
    """Whether this processor is known to have no instruction for 8-bit products, so that int8 is hardly faster here.

    False where the operating system does not tell.
    """
    try:
        lines = _CPUINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features"))), [])
    return bool(flags) and not _FAST_8_BIT_PRODUCTS & set(flags)
