"""The one door that files come in through."""

from vitrify.artifacts.artifact import CHECKPOINT_SUFFIXES, Artifact, Kind
from vitrify.artifacts.integrity import seal, unsealed

__all__ = ["CHECKPOINT_SUFFIXES", "Artifact", "Kind", "seal", "unsealed"]
