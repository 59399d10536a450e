"""Where the weights are, and what the files beside them say: Hugging Face's and timm's `config.json`."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from vitrify.checkpoints.hints import Hints
from vitrify.checkpoints.reading import SUFFIXES, read_weights
from vitrify.errors import CheckpointError, OptionError, SpecError
from vitrify.files import sha256_of
from vitrify.spec import Interpolation, Preprocess

_STANDARD_NAMES = ("model.safetensors", "pytorch_model.bin")
_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_JSON_LIMIT_BYTES = 16 << 20
"""More than any true configuration or index of shards."""
_PIL_FILTERS: tuple[Interpolation, ...] = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""Pillow's numbering of its filters, which Hugging Face stores as `resample`."""


@dataclass(frozen=True, kw_only=True)
class Folder:
    """Weight files and the configuration beside them.

    Attributes:
        path: What the user named.
        files: The weights, more than one where they are sharded.
        config: `config.json`, empty where there is none.
        processor: `preprocessor_config.json`, empty where there is none.
    """

    path: Path
    files: tuple[Path, ...]
    config: dict[str, Any] = field(default_factory=dict)
    processor: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """File name of the weights, with the folder where that tells more."""
        return self.path.name if self.path.is_file() else f"{self.path.resolve().name}/{self.files[0].name}"

    def sha256(self) -> str:
        """Of the weight file; of the files' digests one after the other where there are several."""
        digests = [sha256_of(file) for file in self.files]
        return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()

    def read_shards(self) -> dict[str, torch.Tensor]:
        """The tensors of all files together."""
        tensors: dict[str, torch.Tensor] = {}
        for file in self.files:
            tensors |= read_weights(file)[0]
        return tensors

    def hints(self) -> Hints:
        """What timm's form of `config.json` says. Hugging Face's is read with its dialect."""
        if "architecture" not in self.config:
            return Hints()
        pool = self.config.get("global_pool")
        return Hints(architecture=str(self.config["architecture"]), pool=pool if pool in ("token", "avg") else None)

    def labels(self, num_classes: int) -> tuple[str, ...] | None:
        """Names of the classes, where they are told and are more than `LABEL_0, LABEL_1, ...`."""
        names = self.config.get("label_names")
        if isinstance(by_index := self.config.get("id2label"), dict):
            names = [by_index.get(str(index)) for index in range(len(by_index))]
        if not isinstance(names, list) or len(names) != num_classes or not names:
            return None
        if not all(isinstance(name, str) for name in names) or names == [f"LABEL_{i}" for i in range(num_classes)]:
            return None
        return tuple(names)

    def preprocess(self, img_size: tuple[int, int], notes: list[str]) -> Preprocess | None:
        """The evaluation transform that the folder describes, brought to the model's image size."""
        try:
            if isinstance(data := self.config.get("pretrained_cfg"), dict) and "mean" in data:
                return Preprocess.from_timm({**data, "input_size": (3, *img_size)})
            return _from_processor(self.processor, img_size, notes) if self.processor else None
        except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, SpecError, OptionError) as error:
            notes.append(
                f"preprocessing is timm's for this architecture: the folder's own cannot be expressed "
                f"({str(error).splitlines()[0]})"
            )
            return None


def find_weights(path: Path) -> Folder:
    """Finds the weight files that `path` names.

    Raises:
        CheckpointError: Nothing there, or a folder without weights or with several.
    """
    if not path.is_dir():
        # A config.json beside a file of one's own name may belong to anything.
        beside = path.parent if path.name in _STANDARD_NAMES else None
        return Folder(path=path, files=(path,), **_configs(beside))
    for name in _STANDARD_NAMES:
        if (path / name).is_file():
            return Folder(path=path, files=(path / name,), **_configs(path))
    for name in _INDEXES:
        if (path / name).is_file():
            return Folder(path=path, files=_shards(path / name), **_configs(path))
    weights = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())
    if len(weights) == 1:
        return Folder(path=path, files=(weights[0],), **_configs(path))
    raise CheckpointError(
        f"{path} is a folder with several weight files" if weights else f"{path} is a folder without weights",
        got=", ".join(file.name for file in (weights or sorted(path.iterdir()))[:6]) or "an empty folder",
        expected=" or ".join(_STANDARD_NAMES) + ", as save_pretrained writes them",
        hint=f"name one of them: {weights[0]}" if weights else "name a weight file",
    )


def _configs(folder: Path | None) -> dict[str, dict[str, Any]]:
    if folder is None:
        return {}
    names = {"config": "config.json", "processor": "preprocessor_config.json"}
    return {key: _read_json(folder / name) for key, name in names.items() if (folder / name).is_file()}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _JSON_LIMIT_BYTES:
            raise ValueError(f"{path.stat().st_size} bytes, of {_JSON_LIMIT_BYTES} that are read")
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise CheckpointError(f"{path} is no JSON", got=error, hint="copy or download the folder again") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} is no configuration", got=f"a {type(data).__name__}", expected="an object")
    return data


def _shards(index: Path) -> tuple[Path, ...]:
    weight_map = _read_json(index).get("weight_map")
    names = sorted({str(name) for name in weight_map.values()}) if isinstance(weight_map, dict) else []
    if not names or any(Path(name).name != name for name in names):
        raise CheckpointError(f"{index} lists no weight files", expected='"weight_map": {tensor name: file name}')
    return tuple(index.parent / name for name in names)


def _from_processor(processor: dict[str, Any], img_size: tuple[int, int], notes: list[str]) -> Preprocess:
    size = processor.get("size", img_size[0])
    size = size if isinstance(size, dict) else {"height": size, "width": size}
    resample = processor.get("resample", 2)
    shortest = size.get("shortest_edge")
    resize = (shortest, shortest) if shortest else (size["height"], size["width"])
    crop = resize
    if processor.get("do_center_crop", False):
        crop = processor.get("crop_size", img_size[0])
        crop = (crop["height"], crop["width"]) if isinstance(crop, dict) else (crop, crop)
    elif shortest:
        raise ValueError("it resizes the shortest edge and does not crop")
    if crop != img_size:
        notes.append(
            f"preprocessor_config.json crops to {crop[0]} x {crop[1]} pixels, the position embedding is for "
            f"{img_size[0]} x {img_size[1]}: preprocessing was scaled to that; --img-size resamples the embedding"
        )
        resize = (round(resize[0] * img_size[0] / crop[0]), round(resize[1] * img_size[1] / crop[1]))
    scale = processor.get("rescale_factor", 1 / 255) if processor.get("do_rescale", True) else 1.0
    if abs(scale * 255 - 1) > 1e-6:
        raise ValueError(f"rescale_factor {scale}")
    normalize = processor.get("do_normalize", True)
    mean, std = (processor["image_mean"], processor["image_std"]) if normalize else ((0.0,) * 3, (1.0,) * 3)
    (red, green, blue), (red_std, green_std, blue_std) = map(float, mean), map(float, std)
    return Preprocess(
        resize_rule="shortest" if shortest else "squash",
        resize_height=int(resize[0]),
        resize_width=int(resize[1]),
        crop_height=img_size[0],
        crop_width=img_size[1],
        interpolation=_PIL_FILTERS[resample],
        mean=(red, green, blue),
        std=(red_std, green_std, blue_std),
    )
