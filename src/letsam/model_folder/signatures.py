"""Signatures of models: Ed25519 (RFC 8032) over ``manifest.json``, which has the hash of every file.

Whoever may write to a folder can write another manifest as well, but without the private key no signature of it. The
signature is a file of 64 bytes, and the keys are PEM files, so that other programs can make and check them:

    openssl genpkey -algorithm ed25519 -out key.pem
    openssl pkey -in key.pem -pubout -out key.pub
    openssl pkeyutl -verify -pubin -inkey key.pub -rawin -in manifest.json -sigfile manifest.sig

The package `cryptography` is imported when it is used.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from letsam.model_folder.manifest import MANIFEST, SIGNATURE, ModelFolderError, check_manifest
from letsam.results import replacing

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

__all__ = ["check_signature", "make_keys", "read_private_key", "sign_model"]

INSTALL = '`pip install "letsam[operation]"`'


def make_keys(private: str | Path) -> Path:
    """Make a pair of keys.

    Args:
        private: the file of the private key, which its owner alone can read; it must not be there yet.

    Returns:
        The file of the public key: the same name with the suffix ``.pub``.

    Raises:
        ValueError: one of the two files is there already.
    """
    serialization, ed25519 = _libraries()
    secret, public = Path(private), Path(private).with_suffix(".pub")
    for path in (secret, public):
        if path.exists():
            raise ValueError(f"{path}: expected no such file, as a key is never replaced, but there is one")
    key = ed25519.Ed25519PrivateKey.generate()
    plain = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    secret.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(secret, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(plain)
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    with replacing(public) as temporary:
        temporary.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, form))
    return public


def sign_model(folder: Path, key: str | Path) -> Path:
    """Sign a model.

    Args:
        folder: of the model; its files are compared with the manifest first.
        key: file of the private key.

    Returns:
        The signature.

    Raises:
        ModelFolderError: a file was changed.
        ValueError: no such key.
    """
    secret = read_private_key(key)
    check_manifest(folder)
    with replacing(folder / SIGNATURE) as temporary:
        temporary.write_bytes(secret.sign((folder / MANIFEST).read_bytes()))
    return folder / SIGNATURE


def check_signature(folder: Path, key: str | Path) -> None:
    """Compare the signature of a model with its manifest; `check_manifest` then compares the files.

    Args:
        folder: of the model.
        key: file of the public key.

    Raises:
        ModelFolderError: it is not signed, or not by this key.
        ValueError: no such key.
    """
    from cryptography.exceptions import InvalidSignature

    public = _public_key(key)
    path = folder / SIGNATURE
    try:
        signature, manifest = path.read_bytes(), (folder / MANIFEST).read_bytes()
    except FileNotFoundError as error:
        what = "is not signed" if path.name in str(error.filename) else f"has no {MANIFEST}"
        raise ModelFolderError(f"{folder}: expected a model signed with the key of {key}, but it {what}") from None
    try:
        public.verify(signature, manifest)
    except InvalidSignature:
        raise ModelFolderError(
            f"{path}: expected a signature of {MANIFEST} with the key of {key}, got another; the manifest was changed "
            "or another key has signed it"
        ) from None


def read_private_key(path: str | Path) -> Ed25519PrivateKey:
    """Read a private key.

    Raises:
        ValueError: the file is none.
    """
    serialization, ed25519 = _libraries()
    try:
        key: Any = serialization.load_pem_private_key(_content(path), password=None)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: expected a private Ed25519 key (PEM, without a password), got {error}") from None
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise ValueError(f"{path}: expected a private Ed25519 key, got one of the type {type(key).__name__}")
    return key


def _public_key(path: str | Path) -> Ed25519PublicKey:
    serialization, ed25519 = _libraries()
    content = _content(path)
    try:
        key: Any = serialization.load_pem_public_key(content)
    except ValueError as error:
        what = "a private key" if b"PRIVATE KEY" in content else error
        raise ValueError(f"{path}: expected a public Ed25519 key (PEM), got {what}") from None
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise ValueError(f"{path}: expected a public Ed25519 key, got one of the type {type(key).__name__}")
    return key


def _content(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: expected a key, but it cannot be read: {error.strerror}") from None


def _libraries() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise ValueError(f"signatures need the package cryptography; install it with {INSTALL}") from None
    return serialization, ed25519
