"""Times that can be compared: contenders in turns, who won a race, and what this processor reaches."""

from vitrify.timing.peaks import Peaks, measure_peaks
from vitrify.timing.turns import GPU_SETTLING_S, LEAST_ROUNDS, SETTLING_CALLS, WARM_UP, Speed, Turns, take_turns

__all__ = [
    "GPU_SETTLING_S",
    "LEAST_ROUNDS",
    "Peaks",
    "SETTLING_CALLS",
    "Speed",
    "Turns",
    "WARM_UP",
    "measure_peaks",
    "take_turns",
]
