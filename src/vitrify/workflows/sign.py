"""Who made an artifact: an Ed25519 signature beside it, in the form of minisign, which checks it too.

https://jedisct1.github.io/minisign/#signature-format: of the BLAKE2b-512 of the whole file, and once more of that
signature with the trusted comment. https://www.rfc-editor.org/rfc/rfc8032 is Ed25519; `cryptography` computes it.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vitrify import __version__
from vitrify.artifacts import Artifact, manifest_path
from vitrify.errors import ArtifactError, MissingExtraError, OptionError, SignatureError
from vitrify.files import atomic_write
from vitrify.spec import Result
from vitrify.text import for_shell

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

SIGNATURE_SUFFIX = ".minisig"

PASSWORD = "VITRIFY_KEY_PASSWORD"  # noqa: S105 - the name of a variable of the environment
"""Of a private key that is encrypted."""

_OF_KEY, _OF_HASH = b"Ed", b"ED"  # minisign's names: a key, and a signature of a BLAKE2b hash
_LIMIT_BYTES = 1 << 16


@dataclass(frozen=True, kw_only=True)
class SignResult(Result):
    """What was signed.

    Attributes:
        path: The signature's file.
        signed: The file that it is of: the artifact, or of an engine its manifest, which names the plan's bytes.
        public_key: What who checks it has to be given, by another way than the artifact: 56 letters and digits.
    """

    path: Path
    signed: Path
    public_key: str


def signature_from_artifact(artifact: str | os.PathLike[str], key: str | os.PathLike[str]) -> SignResult:
    """Writes a signature beside an artifact.

    Args:
        artifact: An ONNX file, a checkpoint that is a file, or an engine with its manifest.
        key: An Ed25519 private key in PEM (`openssl genpkey -algorithm ed25519`), encrypted or not.

    Raises:
        ArtifactError, EngineError: The artifact cannot be used, or is not the file that was written.
        OptionError: A folder, or no such key.
        MissingExtraError: cryptography is not installed.
        StorageError: The signature cannot be written.
    """
    opened = Artifact.open(artifact)
    opened.require_intact()
    secret = _private_key(Path(key))
    signed = _signed_file(opened)
    public = secret.public_key().public_bytes_raw()
    now = datetime.datetime.now(datetime.timezone.utc)
    comment = f"timestamp:{int(now.timestamp())}\tfile:{signed.name}\thashed\tvitrify {__version__}"
    signature = secret.sign(_hash_of(signed))
    again = secret.sign(signature + comment.encode())
    path = signed.with_name(signed.name + SIGNATURE_SUFFIX)
    lines = [
        f"untrusted comment: signature of {signed.name} by vitrify",
        base64.b64encode(_OF_HASH + _key_id(public) + signature).decode(),
        f"trusted comment: {comment}",
        base64.b64encode(again).decode(),
    ]
    atomic_write(path, "\n".join(lines) + "\n")
    return SignResult(
        path=path, signed=signed, public_key=base64.b64encode(_OF_KEY + _key_id(public) + public).decode()
    )


def require_signed(artifact: str | os.PathLike[str], public_key: str | os.PathLike[str]) -> str:
    """Holds an artifact to a signature beside it.

    Args:
        artifact: What was signed.
        public_key: minisign's form of an Ed25519 public key: the text that `SignResult.public_key` is, or a file with
            it.

    Returns:
        The trusted comment: when and under which name it was signed.

    Raises:
        SignatureError: No signature, one of another key, or one of other bytes.
        OptionError: No such public key.
        ArtifactError, EngineError: The artifact cannot be used, or an engine is not what its manifest names.
        MissingExtraError: cryptography is not installed.
    """
    key_id, key = _public_key(os.fspath(public_key))
    opened = Artifact.open(artifact)
    signed = _signed_file(opened)
    if opened.kind == "engine":
        opened.require_intact()
    path = signed.with_name(signed.name + SIGNATURE_SUFFIX)
    if not path.is_file():
        raise SignatureError(
            f"{artifact} is not signed", expected=f"{path.name} beside it", hint="vitrify sign ARTIFACT --key KEY"
        )
    try:
        lines = _text(path).splitlines()
        parts, again = base64.b64decode(lines[1], validate=True), base64.b64decode(lines[3], validate=True)
        comment = lines[2].removeprefix("trusted comment: ")
        if len(parts) != 74 or parts[:2] != _OF_HASH or comment == lines[2]:
            raise ValueError(f"{len(parts)} bytes that begin with {parts[:2]!r}")
    except (OSError, ValueError, IndexError) as error:
        raise SignatureError(
            f"{path} is no signature", got=error, expected="minisign's four lines, of a hashed file"
        ) from error
    signer, signature = parts[2:10], parts[10:]
    if signer != key_id:
        raise SignatureError(
            f"{artifact} is signed by another key", got=_shown(signer), expected=_shown(key_id), hint="ask who made it"
        )
    if not (_holds(key, signature, _hash_of(signed)) and _holds(key, again, signature + comment.encode())):
        raise SignatureError(
            f"the signature of {artifact} does not hold",
            got="other bytes than were signed",
            hint="copy it again from who signed it; do not run it",
        )
    return comment


def _signed_file(artifact: Artifact) -> Path:
    if artifact.path.is_dir():
        raise OptionError(f"{artifact} is a folder", expected="a file", hint="export it, and sign what ships")
    return manifest_path(artifact.path) if artifact.kind == "engine" else artifact.path


def _hash_of(path: Path) -> bytes:
    digest = hashlib.blake2b(digest_size=64)
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise ArtifactError(f"cannot read {path}", got=error.strerror or error) from error
    return digest.digest()


def _key_id(public: bytes) -> bytes:
    # minisign draws eight bytes; from the key itself, the same key has the same name wherever it is used.
    return hashlib.sha256(public).digest()[:8]


def _shown(key_id: bytes) -> str:
    return f"key {key_id[::-1].hex().upper()}"  # as minisign prints it


def _holds(key: Ed25519PublicKey, signature: bytes, message: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


def _private_key(path: Path) -> Ed25519PrivateKey:
    _require_library()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    make = f"openssl genpkey -algorithm ed25519 -out {for_shell(path)}"
    password = os.environ.get(PASSWORD, "").encode() or None
    try:
        key = load_pem_private_key(_text(path).encode(), password)
    except FileNotFoundError:
        raise OptionError(f"no such key: {path}", hint=make) from None
    except TypeError as error:  # a password too many, or one too few
        raise OptionError(f"the password of {path} is not right", got=error, hint=f"set {PASSWORD}") from error
    except (OSError, ValueError) as error:
        raise OptionError(f"{path} is no private key", got=error, expected="Ed25519 in PEM", hint=make) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise OptionError(f"{path} is a key of another kind", got=type(key).__name__, expected="Ed25519", hint=make)
    return key


def _public_key(given: str) -> tuple[bytes, Ed25519PublicKey]:
    _require_library()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        text = _text(Path(given)).strip().splitlines()[-1] if Path(given).is_file() else given
        data = base64.b64decode(text, validate=True)
        if len(data) != 42 or data[:2] != _OF_KEY:
            raise ValueError(f"{len(data)} bytes")
        return data[2:10], Ed25519PublicKey.from_public_bytes(data[10:])
    except (OSError, ValueError, IndexError, binascii.Error) as error:
        raise OptionError(
            f"{given} is no public key",
            got=error,
            expected="minisign's form, 56 letters and digits that begin with RW, or a file with them",
            hint="vitrify sign prints it",
        ) from error


def _text(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(_LIMIT_BYTES + 1)
    if len(content) > _LIMIT_BYTES:
        raise ValueError(f"more than {_LIMIT_BYTES} bytes")
    return content.decode("utf-8")


def _require_library() -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("signatures need cryptography", extra="sign", package="cryptography") from error
