"""Commands: parse, call, print; no logic."""

from vitrify.cli.app import main

__all__ = ["main"]
