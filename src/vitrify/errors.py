"""Every error that vitrify raises on purpose.

VitrifyError                      a message with what, got, expected, hint
├── InputError                    what the user gave cannot be used (exit code 2)
│   ├── OptionError               an option's value, or two options that contradict each other
│   ├── ImageError                bytes that are no readable image
│   ├── DatasetError              an image folder that cannot be trained on or evaluated
│   ├── CheckpointError           a weight file that cannot be read or understood
│   │   └── AmbiguousCheckpointError   tensors that fit several models; lists them and the option that decides
│   ├── ArtifactError             a file that is no artifact of the kind that is meant
│   │   ├── SelfTestError         an artifact that does not give its golden logits on this machine (exit code 1)
│   │   ├── ProcessorError        an artifact whose 8-bit products would be wrong on this processor
│   │   └── EngineError           a TensorRT engine that cannot run here: other version or GPU, no manifest, damaged
│   ├── BuildError                a graph that TensorRT cannot make an engine of
│   ├── SpecError                 a model spec that is invalid
│   │   ├── SpecMissingError      the file carries none
│   │   └── SpecVersionError      written by a newer vitrify
│   ├── MissingExtraError         an optional dependency is not installed
│   └── StorageError              a file cannot be written; the target is left as it was
│       └── FolderInUseError      another process writes to the folder; names it
├── RuntimeFailureError           an inference runtime refused a model or a batch (exit code 2)
│   └── DeviceError               no GPU, a driver that is too old, or not enough GPU memory
├── TrainingDivergedError         a loss that is not finite (exit code 1)
└── GateError                     a comparison did not hold; nothing was written (exit code 1)
    └── SignatureError            an artifact that is not signed by the key that was named (exit code 1)

Exit codes: 0 done; 1 a gate did not hold; 2 the input or the options are wrong; 3 vitrify itself failed, by an
exception that is none of these, whose traceback VITRIFY_TRACEBACK=1 in the environment shows; 130 Ctrl-C; 143 SIGTERM.
"""

from __future__ import annotations


class VitrifyError(Exception):
    """Base of the tree: says what happened, what was found, what would be right and how to go on.

    Args:
        what: One sentence, the failure itself.
        got: What was found, as the user would recognise it.
        expected: What would have been accepted.
        hint: The next thing to try.

    Attributes:
        result: What was measured or made all the same, where a gate did not hold; None where there is nothing.
    """

    exit_code = 2
    result: object = None

    def __init__(self, what: str, *, got: object = None, expected: object = None, hint: str | None = None) -> None:
        super().__init__(what, got, expected, hint)
        self.what = what
        self.got = got
        self.expected = expected
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword arguments do not survive Exception's own pickling, and worker processes raise these too.
        return _restore, (type(self), self.__dict__)

    def __str__(self) -> str:
        parts = [self.what]
        shown = (("got", self.got), ("expected", self.expected))
        parts += [f"  {name}: {value}" for name, value in shown if value not in (None, "")]
        if self.hint:
            parts.append(f"hint: {self.hint}")
        return "\n".join(parts)


def _restore(kind: type[VitrifyError], state: dict[str, object]) -> VitrifyError:
    error = kind.__new__(kind)
    error.__dict__.update(state)
    return error


class InputError(VitrifyError):
    """What the user gave cannot be used."""


class OptionError(InputError):
    """An option has a value that cannot be used, or contradicts another option or the artifact."""


class ImageError(InputError):
    """Bytes that are no readable image."""


class DatasetError(InputError):
    """An image folder that cannot be trained on or evaluated."""


class CheckpointError(InputError):
    """A weight file that cannot be read or understood."""


class AmbiguousCheckpointError(CheckpointError):
    """Tensors that fit several models; lists them and the option that decides."""


class ArtifactError(InputError):
    """A file that is no artifact of the kind that is meant."""


class SelfTestError(ArtifactError):
    """An artifact that does not give its golden logits on this machine."""

    exit_code = 1


class ProcessorError(ArtifactError):
    """An artifact whose 8-bit products would be wrong on this processor."""


class EngineError(ArtifactError):
    """A TensorRT engine that cannot run here: of another version or GPU, without a manifest, or damaged."""


class BuildError(InputError):
    """A graph that TensorRT cannot make an engine of."""


class SpecError(InputError):
    """A model spec that is invalid."""


class SpecMissingError(SpecError):
    """The file carries no model spec."""


class SpecVersionError(SpecError):
    """The model spec was written by a newer vitrify."""


class MissingExtraError(InputError):
    """A dependency, most often an optional one, is not installed; the hint is the pip command."""

    def __init__(self, what: str, *, extra: str, package: str | None = None, hint: str | None = None) -> None:
        super().__init__(
            what,
            got=f"{package} is not installed" if package else None,
            hint=hint or (f'pip install "vitrify[{extra}]"' if extra else "pip install vitrify"),
        )
        self.extra = extra


class StorageError(InputError):
    """A file cannot be written; whatever stood at the target is still there."""


class FolderInUseError(StorageError):
    """Another process writes to the folder; the message names it."""


class RuntimeFailureError(VitrifyError):
    """An inference runtime refused a model or a batch."""


class DeviceError(RuntimeFailureError):
    """No GPU, a driver that is too old, or not enough GPU memory."""


class TrainingDivergedError(VitrifyError):
    """A training loss is not finite."""

    exit_code = 1


class GateError(VitrifyError):
    """A comparison did not hold; nothing was written."""

    exit_code = 1


class SignatureError(GateError):
    """An artifact without a signature, or with one that is of another key or of other bytes."""
