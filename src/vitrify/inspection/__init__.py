"""What is inside an artifact, and what this machine can do with it."""

from vitrify.inspection.doctor import Finding, diagnose
from vitrify.inspection.netron import open_in_netron
from vitrify.inspection.network import Network, Part, inspect_network

__all__ = ["Finding", "Network", "Part", "diagnose", "inspect_network", "open_in_netron"]
