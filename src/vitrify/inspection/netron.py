"""The graph as a picture in a browser."""

from __future__ import annotations

import importlib.util
import os
import time

from vitrify.errors import VitrifyError


def open_in_netron(path: str | os.PathLike[str]) -> None:
    """Serves a graph with Netron on this machine and opens a browser; returns after Ctrl-C.

    Raises:
        VitrifyError: Netron is not installed.
    """
    if importlib.util.find_spec("netron") is None:
        raise VitrifyError("Netron is not installed", hint="pip install netron")
    import netron

    netron.start(str(path))
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        netron.stop()
