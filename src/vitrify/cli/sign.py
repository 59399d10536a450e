from __future__ import annotations

from typing import TYPE_CHECKING

from vitrify import api
from vitrify.cli.from_function import Run, command_of, finish
from vitrify.cli.options import JsonFlag
from vitrify.console import out
from vitrify.text import for_shell

if TYPE_CHECKING:
    from vitrify.workflows.sign import SignResult


@command_of(api.sign)
def sign(run: Run[SignResult], *, json: JsonFlag = False) -> int:
    """Write a signature beside an artifact, by which whoever has the public key knows who made it.

    Of an engine, the manifest is signed, which names the plan's bytes. The signature has minisign's form, so that
    minisign -V checks it as well as vitrify verify --signed-by.

    Example: `vitrify sign flowers.onnx --key release.pem`

    Args:
        json: Print the result as JSON on stdout.
    """
    return finish(run, _show, json=json)


def _show(result: SignResult) -> None:
    artifact = result.signed.with_suffix("") if result.signed.suffix == ".json" else result.signed
    out.print(f"signature: {result.path}", soft_wrap=True)
    out.print(f"public key: {result.public_key}", soft_wrap=True)
    out.print(f"check: vitrify verify {for_shell(artifact)} --signed-by {result.public_key}", soft_wrap=True)
