from __future__ import annotations

import pickle

from vitrify import errors
from vitrify.errors import GateError, ImageError, MissingExtraError, OptionError, VitrifyError


def test_the_drawn_tree_is_the_tree() -> None:
    drawn = {word for line in (errors.__doc__ or "").splitlines() for word in line.split() if word.endswith("Error")}
    real = {name for name, thing in vars(errors).items() if isinstance(thing, type) and issubclass(thing, VitrifyError)}
    assert drawn == real


def test_a_message_says_what_got_expected_and_hint() -> None:
    error = OptionError("the batch is too large", got=9, expected="at most 8", hint="lower --batch-size")
    assert str(error) == "the batch is too large\n  got: 9\n  expected: at most 8\nhint: lower --batch-size"
    assert str(ImageError("not an image")) == "not an image"
    # Zero and False are answers too.
    assert "got: 0" in str(OptionError("too small", got=0))


def test_exit_codes() -> None:
    assert (OptionError("x").exit_code, GateError("x").exit_code) == (2, 1)


def test_errors_cross_processes() -> None:
    error = pickle.loads(pickle.dumps(OptionError("what", got=1, hint="go on")))
    assert (error.what, error.got, error.hint) == ("what", 1, "go on")
    assert MissingExtraError("x", extra="train").hint == 'pip install "vitrify[train]"'
    assert MissingExtraError("x", extra="").hint == "pip install vitrify"
