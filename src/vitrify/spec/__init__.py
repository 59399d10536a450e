"""`ModelSpec`, the golden vectors, and how both are found in a file."""

from vitrify.spec.codec import Result, encode
from vitrify.spec.gates import FP32_GATE, gate_for
from vitrify.spec.golden import (
    GOLDEN_RECIPES,
    golden_batch,
    golden_input,
    golden_logits,
    golden_recipe_batch,
    golden_vectors,
)
from vitrify.spec.model_spec import (
    SPEC_KEY,
    SPEC_VERSION,
    GoldenVector,
    InputSpec,
    Interpolation,
    KwargValue,
    ModelSpec,
    OutputSpec,
    Preprocess,
    ResizeRule,
    Source,
    Task,
)
from vitrify.spec.search import PRECISION_SEARCH, Attempt, Precision, PrecisionSearch
from vitrify.spec.storage import embedded_spec
from vitrify.spec.verification import MIN_IMAGES, Check, Gate, InputKind, Verification

__all__ = [
    "FP32_GATE",
    "GOLDEN_RECIPES",
    "MIN_IMAGES",
    "PRECISION_SEARCH",
    "SPEC_KEY",
    "SPEC_VERSION",
    "Attempt",
    "Check",
    "Gate",
    "GoldenVector",
    "InputKind",
    "InputSpec",
    "Interpolation",
    "KwargValue",
    "ModelSpec",
    "OutputSpec",
    "Precision",
    "PrecisionSearch",
    "Preprocess",
    "ResizeRule",
    "Result",
    "Source",
    "Task",
    "Verification",
    "encode",
    "gate_for",
    "golden_batch",
    "golden_input",
    "golden_logits",
    "golden_recipe_batch",
    "golden_vectors",
    "embedded_spec",
]
