"""How far logits may be from the reference's, by the precision that they were computed in."""

from __future__ import annotations

from vitrify.spec.search import Precision
from vitrify.spec.verification import Gate

FP32_GATE = Gate(absolute=1e-4, relative=1e-3, top1_agreement=1.0)
"""For the same fp32 graph in another runtime: what rounding in another order explains, and no more."""

BF16_GATE = Gate(absolute=0.1, relative=0.05, top1_agreement=0.99)
"""For bf16 arithmetic, whose 8 bits of mantissa round each product to 0.4%: 99% of the answers must stay."""

FP16_GATE = Gate(absolute=0.05, relative=0.02, top1_agreement=0.99)
"""For fp16 arithmetic, whose 11 bits of mantissa round each product to 0.05%, and whose sums may be as short."""

EIGHT_BIT_GATE = Gate(absolute=0.5, relative=0.1, top1_agreement=0.99)
"""For int8 and fp8, whose steps are a hundredth of a tensor's range: finds what is broken. Whether the loss of accuracy
is small enough is judged on labelled images, when the file is made."""


def gate_for(precision: Precision, graph: Precision = "fp32") -> Gate:
    """The gate that a precision is held to.

    Args:
        precision: What a runtime computes in.
        graph: What the graph's own types say; an 8-bit graph is no more exact where the rest of it runs in bf16.
    """
    gates = {"fp32": FP32_GATE, "fp16": FP16_GATE, "bf16": BF16_GATE}
    return max((gates.get(precision, EIGHT_BIT_GATE), gates.get(graph, EIGHT_BIT_GATE)), key=lambda gate: gate.absolute)
