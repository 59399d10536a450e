"""What every case needs: who and where we are, and a dated file of results."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PACKAGES = (
    "vitrify",
    "numpy",
    "pillow",
    "torch",
    "torchvision",
    "timm",
    "opencv-python-headless",
    "albumentations",
    "onnxruntime",
    "openvino",
)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def environment() -> dict[str, Any]:
    """Processor, cores, Python and the version of every package that is installed."""
    from vitrify.machine import processor_name

    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
        "processor": processor_name(),
        "cores": cores(),
        "python": platform.python_version(),
        "versions": versions,
    }


def versions_in(name: str, packages: tuple[str, ...]) -> dict[str, str]:
    """Of packages in a peer's own environment, `.venv-<name>`; empty where there is none."""
    folders = [str(path) for path in ROOT.glob(f".venv-{name}/lib/python*/site-packages")]
    found = importlib.metadata.distributions(path=folders)
    return {distribution.name: distribution.version for distribution in found if distribution.name in packages}


def write_results(case: str, rows: list[dict[str, Any]], where: dict[str, Any]) -> Path:
    """Writes `results/<date>-<machine>-<case>.json` and prints the rows."""
    machine = re.sub(r"[^a-z0-9]+", "-", f"{where['processor']}-{where['cores']}cores".lower()).strip("-")
    path = RESULTS / f"{where['date']}-{machine}-{case}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"environment": where, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    for row in rows:
        print(" ".join(f"{key}={value}" for key, value in row.items()))
    print(f"wrote {path}")
    return path
