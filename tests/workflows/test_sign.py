"""Who made an artifact: signatures that minisign reads too, and what is no signature."""

from __future__ import annotations

import base64
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import vitrify
from tests.tensorrt.conftest import Machine, machine
from vitrify.artifacts import BuildConfig
from vitrify.cli import main
from vitrify.errors import ArtifactError, EngineError, OptionError, SignatureError
from vitrify.workflows.build import engine_from_onnx
from vitrify.workflows.sign import PASSWORD, SignResult, require_signed, signature_from_artifact
from vitrify.workflows.verify import verify_and_record

__all__ = ["machine"]


def write_key(path: Path, password: bytes = b"") -> Path:
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    path.write_bytes(
        Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
        )
    )
    return path


@pytest.fixture
def model(artifact: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(artifact, tmp_path / "model.onnx"))


@pytest.fixture
def signed(model: Path, tmp_path: Path) -> SignResult:
    return signature_from_artifact(model, write_key(tmp_path / "key.pem"))


def test_a_signature_holds_until_a_byte_changes(model: Path, signed: SignResult) -> None:
    assert "file:model.onnx" in require_signed(model, signed.public_key)
    model.write_bytes(model.read_bytes().replace(b"daisy", b"Daisy"))
    with pytest.raises(SignatureError, match="other bytes than were signed"):
        require_signed(model, signed.public_key)


def test_a_head_that_was_swapped_together_with_its_vectors_is_another_makers(
    model: Path, signed: SignResult, tmp_path: Path
) -> None:
    """Such a file passes its own golden vectors and its own digest; only the signature tells."""
    import onnx

    from vitrify.artifacts import read_spec
    from vitrify.graphs import write_artifact

    write_artifact(onnx.load(model), read_spec(model).replace(labels=read_spec(model).labels[::-1]), model)
    vitrify.verify(model)
    with pytest.raises(SignatureError, match="other bytes than were signed"):
        vitrify.verify(model, signed_by=signed.public_key)


@pytest.mark.skipif(shutil.which("minisign") is None, reason="minisign is not installed")
def test_minisign_agrees(model: Path, signed: SignResult, tmp_path: Path) -> None:
    check = ["minisign", "-V", "-m", str(model), "-P", signed.public_key]
    subprocess.run(check, check=True, capture_output=True)
    subprocess.run(
        ["minisign", "-G", "-W", "-p", str(tmp_path / "its.pub"), "-s", str(tmp_path / "its.key")], check=True
    )
    subprocess.run(
        ["minisign", "-S", "-m", model, "-s", tmp_path / "its.key", "-t", "made by minisign"], check=True, input=b""
    )
    assert require_signed(model, tmp_path / "its.pub") == "made by minisign"
    with pytest.raises(SignatureError, match="another key"):
        require_signed(model, signed.public_key)


def test_what_is_no_signature(model: Path, signed: SignResult, tmp_path: Path) -> None:
    good = signed.path.read_text()
    lines = good.splitlines()
    parts = base64.b64decode(lines[1])
    forged = base64.b64encode(parts[:-1] + bytes([parts[-1] ^ 1])).decode()
    unhashed = base64.b64encode(b"Ed" + parts[2:]).decode()
    for text, says in (
        (good.replace("file:model", "file:other"), "does not hold"),  # the comment is signed as well
        ("\n".join([lines[0], forged, *lines[2:]]), "does not hold"),
        ("\n".join([lines[0], unhashed, *lines[2:]]), "is no signature"),
        ("\n".join(lines[:3]), "is no signature"),
        ("", "is no signature"),
        ("x" * (1 << 17), "is no signature"),
    ):
        signed.path.write_text(text)
        with pytest.raises(SignatureError, match=says):
            require_signed(model, signed.public_key)
    signed.path.unlink()
    with pytest.raises(SignatureError, match="is not signed"):
        require_signed(model, signed.public_key)
    with pytest.raises(OptionError, match="is a folder"):
        signature_from_artifact(tmp_path, tmp_path / "key.pem")


def test_keys(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked = write_key(tmp_path / "locked.pem", b"secret")
    with pytest.raises(OptionError, match=f"password(?s:.*){PASSWORD}"):
        signature_from_artifact(model, locked)
    monkeypatch.setenv(PASSWORD, "secret")
    public = signature_from_artifact(model, locked).public_key
    (tmp_path / "release.pub").write_text(f"untrusted comment: ours\n{public}\n")
    assert require_signed(model, tmp_path / "release.pub") == require_signed(model, public)
    monkeypatch.delenv(PASSWORD)
    other = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "other.pem").write_bytes(other)
    for key, says in (("gone.pem", "openssl genpkey"), ("other.pem", "another kind"), ("model.onnx", "no private key")):
        with pytest.raises(OptionError, match=says):
            signature_from_artifact(model, tmp_path / key)
    for given in ("RW", "x" * 56, str(tmp_path / "other.pem")):
        with pytest.raises(OptionError, match="no public key"):
            require_signed(model, given)


def test_a_damaged_file_is_not_signed(model: Path, tmp_path: Path) -> None:
    content = model.read_bytes().replace(b"daisy", b"Daisy")
    model.write_bytes(content)
    with pytest.raises(ArtifactError, match="not the file that was written"):
        signature_from_artifact(model, write_key(tmp_path / "key.pem"))
    assert not list(tmp_path.glob("*.minisig"))


def test_an_engine_is_signed_by_its_manifest(machine: Machine, artifact: Path, tmp_path: Path) -> None:
    plan = engine_from_onnx(artifact, tmp_path / "tiny.engine", config=BuildConfig(timing_cache="none")).path
    result = signature_from_artifact(plan, write_key(tmp_path / "key.pem"))
    assert result.signed.name == "tiny.engine.json"
    require_signed(plan, result.public_key)
    verified = verify_and_record(plan)
    assert verified.notes == ("the manifest is signed: it keeps its own record",)
    require_signed(plan, result.public_key)
    plan.write_bytes(plan.read_bytes() + b" ")
    with pytest.raises(EngineError, match="is not the plan"):
        require_signed(plan, result.public_key)


def test_the_commands(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = write_key(tmp_path / "key.pem")
    with pytest.raises(SystemExit) as ended:
        main(["sign", str(model), "--key", str(key)])
    assert ended.value.code == 0
    check = capsys.readouterr().out.splitlines()[-1]
    assert check.startswith("check: vitrify verify ")
    with pytest.raises(SystemExit) as ended:
        main(check.split()[2:])
    assert ended.value.code == 0
    assert "the signature holds: timestamp:" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["verify", str(model), "--signed-by", vitrify.sign(model, key=write_key(tmp_path / "b.pem")).public_key])
    assert ended.value.code == 0
    (tmp_path / "model.onnx.minisig").unlink()
    with pytest.raises(SystemExit) as ended:
        main(check.split()[2:])
    assert ended.value.code == 1
    assert "is not signed" in capsys.readouterr().err
