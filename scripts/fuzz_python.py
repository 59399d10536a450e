"""Fuzzes what reads files in Python: mutated golden files must end in a VitrifyError or an answer.

Run by scripts/fuzz:
    fuzz_python.py TARGET FOLDER [LIBFUZZER_OPTION...]      keeps corpus and crashes in FOLDER
"""

from __future__ import annotations

import contextlib
import gc
import io
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import atheris

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden"
sys.path.insert(0, str(ROOT))  # for the tests' own small models

from PIL import Image  # noqa: E402

from vitrify import _native  # noqa: E402
from vitrify.artifacts import (  # noqa: E402
    Artifact,
    manifest_path,
    read_manifest,
)
from vitrify.errors import VitrifyError  # noqa: E402
from vitrify.pixels import DecodeLimits, decode  # noqa: E402
from vitrify.spec import ModelSpec  # noqa: E402

WATCHED = ("vitrify", "PIL", "zipfile", "torch.serialization", "torch._weights_only_unpickler", "numpy.lib")
"""Modules whose branches guide the fuzzer."""

FOLDER = Path(sys.argv[2])
FILES = FOLDER / "files"
Seeds = Iterator[tuple[str, bytes]]


class Pillow:
    """Images that Pillow decodes: all of them, as in a build without any library."""

    options = ("-max_len=8192",)

    def __init__(self) -> None:
        _native.decodable_format = lambda _: None
        self.limits = DecodeLimits(max_pixels=1 << 16)  # larger ones only cost time

    def seeds(self) -> Seeds:
        for path in sorted((*(GOLDEN / "images").iterdir(), *(GOLDEN / "hostile").iterdir())):
            yield path.name, path.read_bytes()
        for kind, options in (("tiff", {}), ("tiff", {"compression": "tiff_lzw"}), ("avif", {}), ("webp", {})):
            buffer = io.BytesIO()
            Image.effect_noise((24, 16), 90).convert("RGB").save(buffer, kind, **options)
            yield f"made{len(options)}.{kind}", buffer.getvalue()

    def __call__(self, data: bytes) -> None:
        assert decode(data, limits=self.limits).ndim == 3


class Spec:
    """The JSON of a spec."""

    options = ("-max_len=16384",)

    def seeds(self) -> Seeds:
        yield "tiny.json", (GOLDEN / "tiny.json").read_bytes()

    def __call__(self, data: bytes) -> None:
        assert ModelSpec.from_json(ModelSpec.from_json(data).to_json())


class Manifest:
    """The JSON beside an engine."""

    options = ("-max_len=16384",)

    def __init__(self) -> None:
        self.plan = FILES / "m.engine"
        self.plan.write_bytes(b"a plan")

    def seeds(self) -> Seeds:
        from tests.artifacts.test_manifest import made_for

        yield "manifest.json", made_for(self.plan).to_json().encode()

    def __call__(self, data: bytes) -> None:
        manifest_path(self.plan).write_bytes(data)
        read_manifest(self.plan)


class Onnx:
    """An ONNX artifact up to what a runtime is given."""

    options = ("-max_len=65536",)

    def seeds(self) -> Seeds:
        yield "tiny.onnx", (GOLDEN / "tiny.onnx").read_bytes()

    def __call__(self, data: bytes) -> None:
        path = FILES / "m.onnx"
        path.write_bytes(data)
        artifact = Artifact.open(path)
        assert artifact.content == data
        assert artifact.spec


class Checkpoint:
    """Weights; the first byte says which kind of file."""

    options = ("-max_len=16384",)
    suffixes = (".safetensors", ".pth", ".npz")

    def __init__(self) -> None:
        from vitrify.checkpoints import load_checkpoint

        self.load = load_checkpoint

    def seeds(self) -> Seeds:
        import numpy as np
        import timm
        import torch
        from safetensors.torch import save_file
        from tests.small import ARCHITECTURE, small_spec

        from vitrify.checkpoints.saving import save_checkpoint

        size = {"img_size": 8, "patch_size": 4, "depth": 1, "embed_dim": 4, "num_heads": 1, "mlp_ratio": 1.0}
        model = timm.create_model(ARCHITECTURE, num_classes=2, **size)
        save_checkpoint(FILES / "own.safetensors", model, small_spec(("a", "b"), size))
        save_file(model.state_dict(), FILES / "foreign.safetensors")
        torch.save({"model": model.state_dict(), "epoch": 3}, FILES / "one.pth")
        np.savez(FILES / "one.npz", **{name: tensor.numpy() for name, tensor in model.state_dict().items()})
        for name in ("own.safetensors", "foreign.safetensors", "one.pth", "one.npz"):
            kind = self.suffixes.index(Path(name).suffix)
            yield name, bytes([kind]) + (FILES / name).read_bytes()
            (FILES / name).unlink()

    def __call__(self, data: bytes) -> None:
        path = FILES / f"m{self.suffixes[data[0] % 3] if data else '.pth'}"
        path.write_bytes(data[1:])
        self.load(path)


TARGETS: dict[str, Callable[[], Pillow | Spec | Manifest | Onnx | Checkpoint]] = {
    "pillow": Pillow,
    "spec": Spec,
    "manifest": Manifest,
    "onnx": Onnx,
    "checkpoint": Checkpoint,
}


def main() -> None:
    corpus, seeds = FOLDER / "corpus", FOLDER / "seeds"
    for folder in (corpus, seeds, FILES):
        folder.mkdir(parents=True, exist_ok=True)
    target = TARGETS[sys.argv[1]]()
    for name, data in target.seeds():
        (seeds / name).write_bytes(data)
    warnings.simplefilter("ignore")
    # Not by atheris.instrument_imports, which an editable installation's own importer goes past.
    for function in gc.get_objects():
        if isinstance(function, types.FunctionType) and (function.__module__ or "").startswith(WATCHED):
            atheris.instrument_func(function)

    def one(data: bytes) -> None:
        with contextlib.suppress(VitrifyError):
            target(data)

    options = ["-timeout=20", "-rss_limit_mb=4096", "-print_final_stats=1", f"-artifact_prefix={FOLDER}/"]
    atheris.Setup([sys.argv[0], *options, *target.options, *sys.argv[3:], str(corpus), str(seeds)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
