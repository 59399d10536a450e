"""The one door that files come in through."""

from vitrify.artifacts.artifact import CHECKPOINT_SUFFIXES, Artifact, Kind

__all__ = ["CHECKPOINT_SUFFIXES", "Artifact", "Kind"]
