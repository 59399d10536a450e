"""optimum's side of `benchmarks/pipeline.py`, in a process and an environment of its own (`.venv-optimum`).

Reads a JSON command a line on standard input and answers each with a JSON line:

    {"do": "open", "folder": …, "fast": false}   -> {"processor": …, "versions": {…}}
    {"do": "logits", "file": …}                  -> {"logits": […]}
    {"do": "time", "file": …}                    -> {"seconds": …}
"""

from __future__ import annotations

import importlib.metadata
import time
from pathlib import Path
from typing import Any

from worker_process import serve


class Optimum:
    """`ORTModelForImageClassification` with the image processor that transformers gives."""

    def open(self, folder: str, *, fast: bool) -> dict[str, Any]:
        """Opens a model; exports it the first time, as optimum does for its users."""
        from optimum.onnxruntime import ORTModelForImageClassification
        from transformers import AutoImageProcessor

        exported = Path(folder) / "onnx"
        if not (exported / "model.onnx").exists():
            ORTModelForImageClassification.from_pretrained(folder, export=True).save_pretrained(exported)
        self.model = ORTModelForImageClassification.from_pretrained(exported)
        self.processor = AutoImageProcessor.from_pretrained(folder, use_fast=fast)
        names = ("optimum", "optimum-onnx", "transformers", "onnxruntime")
        return {
            "processor": type(self.processor).__name__,
            "versions": {name: importlib.metadata.version(name) for name in names},
        }

    def _answer(self, file: str) -> Any:
        from PIL import Image

        with Image.open(file) as image:
            inputs = self.processor(images=image.convert("RGB"), return_tensors="pt")
        return self.model(**inputs).logits

    def logits(self, file: str) -> dict[str, Any]:
        """What it answers to one file."""
        return {"logits": self._answer(file)[0].tolist()}

    def time(self, file: str) -> dict[str, Any]:
        """One call untimed, then one from the file to the best label."""
        self._answer(file)
        start = time.perf_counter()
        best = int(self._answer(file).argmax())
        return {"seconds": time.perf_counter() - start, "label": self.model.config.id2label[best]}


if __name__ == "__main__":
    serve(Optimum())
