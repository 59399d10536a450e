"""What OpenVINO leaves in a process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SIGNALLED = """
import faulthandler, os, signal, sys, threading
faulthandler.enable()
from vitrify.runtimes import open_runtime
opened = [open_runtime(sys.argv[1], "openvino") for _ in range(2)]
for runtime in opened:
    closed = threading.Thread(target=runtime.close)
    closed.start()
    closed.join()
del opened, runtime
got = []
signal.signal(signal.SIGUSR1, lambda number, frame: got.append(number))
os.kill(os.getpid(), signal.SIGUSR1)
assert got == [signal.SIGUSR1]
print("handled")
"""


def test_a_signal_is_handled_after_other_threads_closed_what_this_one_opened(artifact: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SIGNALLED, artifact], check=False, stdout=subprocess.PIPE, timeout=120
    )
    assert (ended.returncode, ended.stdout) == (0, b"handled\n")
