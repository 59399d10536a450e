"""The command line: which command lives where, and what an error looks like."""

from __future__ import annotations

import errno
import functools
import importlib
import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence

from cyclopts import App, CycloptsError, Parameter

from vitrify import __version__
from vitrify.console import err, print_error, print_json
from vitrify.errors import InputError, StorageError, VitrifyError

INTERRUPTED = 130
"""What shells report for Ctrl-C: 128 + SIGINT."""

TERMINATED = 143
"""What shells report for `kill`: 128 + SIGTERM."""

FAULT = 3
"""vitrify itself failed: neither a gate (1) nor the input or the options (2)."""

TRACEBACK = "VITRIFY_TRACEBACK"
"""Set to 1 in the environment, it shows where an unexpected error came from."""

_OF_STDOUT = (errno.ENOSPC, errno.EIO, errno.EFBIG, errno.EDQUOT, errno.EBADF)
_SHOWN = 300

COMMANDS = {
    "train": "train:train",
    "export": "export:export",
    "quantize": "quantize:quantize",
    "build": "build:build",
    "verify": "verify:verify",
    "sign": "sign:sign",
    "eval": "evaluate:evaluate",
    "predict": "predict:predict",
    "bench": "bench:bench",
    "inspect": "inspect:inspect",
    "doctor": "doctor:doctor",
}
"""Name to `module:function` in this folder, in the order of the work."""


def make_app(*, resolved: bool = False) -> App:
    """The command line.

    Args:
        resolved: Import every command now, which the overview and the reference docs need for their summaries. Else a
            command is imported when it is called: `predict` does not pay for what `train` needs.
    """
    app = App(
        name="vitrify",
        help="From a Vision Transformer checkpoint or an image folder to a verified, fast, self-describing artifact.",
        version=f"vitrify {__version__}",
        help_flags=["--help", "-h"],
        suppress_keyboard_interrupt=False,
        default_parameter=Parameter(negative_iterable=(), consume_multiple=True),
    )
    for order, (name, target) in enumerate(COMMANDS.items()):
        module, _, function = target.partition(":")
        if resolved:
            app.command(getattr(importlib.import_module(f"vitrify.cli.{module}"), function), name=name, sort_key=order)
        else:
            app.command(f"vitrify.cli.{target}", name=name, sort_key=order)
    app["--help"].group = app["--version"].group = "Other"
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits.

    0 done, 1 a gate did not hold, 2 the input or the options are wrong, 3 vitrify itself failed; 130 is
    Ctrl-C, 143 SIGTERM.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a label in a terminal that has no such letter
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, functools.partial(_terminate, os.getpid()))
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(run(tokens))


def run(tokens: Sequence[str]) -> int:  # noqa: PLR0911 - one return a way to end
    """Runs one command and gives its exit code; a user's mistake never shows a traceback."""
    if sys.stdout is None:
        err.print("error: standard output is closed")
        return 2
    try:
        # Without a command, the overview is what is shown.
        result = make_app(resolved=not set(tokens) & set(COMMANDS))(
            list(tokens),
            result_action="return_value",
            exit_on_error=False,
            print_error=True,
            error_console=err,
        )
        sys.stdout.flush()
    except CycloptsError:
        return 2
    except VitrifyError as error:
        if "--json" in tokens:
            print_json({"error": {"kind": type(error).__name__, "message": str(error)}})
        print_error(error)
        return error.exit_code
    except BrokenPipeError:
        _discard_stdout()  # somebody downstream, such as `head`, has read enough
        return 0
    except KeyboardInterrupt as stop:
        terminated = isinstance(stop, Terminated)
        err.print("terminated" if terminated else "interrupted")
        return TERMINATED if terminated else INTERRUPTED
    except Exception as error:  # the last door: whatever comes here is a fault of vitrify's own
        if isinstance(error, OSError) and error.filename is None and error.errno in _OF_STDOUT:
            print_error(StorageError("cannot write the output", got=error.strerror or error))
            _discard_stdout()
            return 2
        if isinstance(error, OSError) and error.filename is not None:
            print_error(InputError(f"cannot read or write {os.fsdecode(error.filename)}", got=error.strerror))
            return 2
        return _report_fault(error, json="--json" in tokens)
    return result if isinstance(result, int) else 0


class Terminated(KeyboardInterrupt):
    """SIGTERM: ends as Ctrl-C does, with what was done so far kept and temporary files removed."""


def _terminate(owner: int, signum: int, _: object) -> None:
    if os.getpid() != owner:  # a worker process that was forked ends as it would have
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)
        return
    raise Terminated


def _report_fault(error: Exception, *, json: bool) -> int:
    """One line with what happened, and one with what helps to mend it."""
    if json:
        print_json({"error": {"kind": type(error).__name__, "message": str(error)}})
    if os.environ.get(TRACEBACK, "") not in ("", "0"):
        err.print("".join(traceback.format_exception(error)), soft_wrap=True)
    what = " ".join(str(error).split())
    shown = what if len(what) <= _SHOWN else f"{what[:_SHOWN]}…"
    print_error(
        VitrifyError(
            f"vitrify failed: {type(error).__name__}{': ' if shown else ''}{shown}",
            hint=f"this is a fault of vitrify {__version__}: please report it with what {TRACEBACK}=1 shows",
        )
    )
    return FAULT


def _discard_stdout() -> None:
    # Python flushes once more at exit, and would complain again.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
