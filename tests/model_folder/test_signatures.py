"""Signed models: who may write to the folder but lacks the key cannot make one that is taken for the signed one."""

from __future__ import annotations

import re
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import letsam
from cli_cases import check_error, files
from letsam.cli import run
from letsam.model_folder import ModelFolderError
from letsam.model_folder.manifest import write_manifest
from letsam.model_folder.signatures import check_signature, make_keys, sign_model
from retune_cases import champion


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    champion(tmp_path)
    return tmp_path


@pytest.fixture
def letsam_run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        return (run(arguments), *capsys.readouterr())

    return call


def test_from_the_key_to_the_prediction(here: Path, letsam_run: Any) -> None:
    before = letsam.load("wine").fingerprint
    status, out, _ = letsam_run("sign", "wine", "--key", "letsam.pem", "--new-key")
    assert (status, out) == (0, "public key: letsam.pub\nsignature: wine/model/manifest.sig\n")
    assert stat.S_IMODE((here / "letsam.pem").stat().st_mode) == 0o600
    assert letsam.load("wine", key="letsam.pub").fingerprint == before
    assert letsam_run("predict", "wine", "new.csv", "--key", "letsam.pub")[0] == 0
    assert letsam_run("models", "wine", "--key", "letsam.pub")[0] == 0

    weights = here / "wine" / "model" / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    kept = files(here)
    check_error(letsam_run("predict", "wine", "new.csv", "--key", "letsam.pub"), "weights.safetensors: was changed")
    write_manifest(here / "wine" / "model")  # as an attacker does, who knows the format
    assert letsam.load("wine").fingerprint != before
    message = r"manifest\.sig: expected a signature of manifest\.json with the key of letsam\.pub, got another"
    check_error(letsam_run("predict", "wine", "new.csv", "--key", "letsam.pub"), message)
    status, out, err = letsam_run("models", "wine", "--key", "letsam.pub")
    assert "not whole" in out
    assert status == 2
    assert re.search(rf"^error: .*{message}.*\n$", err)
    with pytest.raises(ModelFolderError, match=message):
        letsam.load("wine", key="letsam.pub")
    assert (here / "predictions.csv").read_bytes() == kept["predictions.csv"]


def test_an_unsigned_model_and_another_key(here: Path) -> None:
    make_keys("a.pem")
    make_keys("b.pem")
    model = here / "wine" / "model"
    with pytest.raises(ModelFolderError, match=r"expected a model signed with the key of a\.pub, but it is not signed"):
        letsam.load("wine", key="a.pub")
    sign_model(model, "b.pem")
    with pytest.raises(ModelFolderError, match=r"with the key of a\.pub, got another; the manifest was changed or"):
        letsam.load("wine", key="a.pub")
    check_signature(model, "b.pub")
    sign_model(model, "a.pem")
    assert letsam.load("wine", key="a.pub").kind == "classification"


def test_a_changed_model_is_not_signed(here: Path) -> None:
    make_keys("a.pem")
    (here / "wine" / "model" / "README.md").write_text("other")
    with pytest.raises(ModelFolderError, match=r"README\.md: was changed"):
        sign_model(here / "wine" / "model", "a.pem")
    assert not (here / "wine" / "model" / "manifest.sig").exists()


def test_keys_are_never_replaced(here: Path, letsam_run: Any) -> None:
    make_keys("a.pem")
    before = files(here)
    check_error(
        letsam_run("sign", "wine", "--key", "a.pem", "--new-key"), r"a\.pem: expected no such file, as a key is"
    )
    assert files(here) == before


def test_what_is_no_key(here: Path, letsam_run: Any) -> None:
    make_keys("a.pem")
    (here / "text.pem").write_text("text")
    for arguments, message in (
        (("sign", "wine", "--key", "none.pem"), r"none\.pem: expected a key, but it cannot be read: No such file"),
        (
            ("sign", "wine", "--key", "text.pem"),
            r"text\.pem: expected a private Ed25519 key \(PEM, without a password\)",
        ),
        (("sign", "wine", "--key", "a.pub"), r"a\.pub: expected a private Ed25519 key"),
        (
            ("predict", "wine", "new.csv", "--key", "a.pem"),
            r"a\.pem: expected a public Ed25519 key \(PEM\), got a priv",
        ),
        (("predict", "wine", "new.csv", "--key", "none"), "none: expected a key, but it cannot be read"),
    ):
        before = files(here)
        check_error(letsam_run(*arguments), message)
        assert files(here) == before


def test_keys_of_another_kind(here: Path) -> None:
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())
    (here / "ec.pem").write_bytes(private)
    (here / "ec.pub").write_bytes(key.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(ValueError, match=r"ec\.pem: expected a private Ed25519 key, got one of the type EC"):
        sign_model(here / "wine" / "model", "ec.pem")
    sign_model(here / "wine" / "model", make_keys("a.pem").with_suffix(".pem"))
    with pytest.raises(ValueError, match=r"ec\.pub: expected a public Ed25519 key, got one of the type EC"):
        letsam.load("wine", key="ec.pub")


def test_without_the_package(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives", None)
    with pytest.raises(ValueError, match=r'signatures need the package cryptography; .*"letsam\[operation\]"'):
        make_keys("a.pem")
    assert not (here / "a.pem").exists()


def test_openssl_makes_and_checks_the_same(here: Path) -> None:
    def openssl(*arguments: str) -> str:
        return subprocess.run(["openssl", *arguments], check=True, capture_output=True, text=True).stdout

    openssl("genpkey", "-algorithm", "ed25519", "-out", "key.pem")
    openssl("pkey", "-in", "key.pem", "-pubout", "-out", "key.pub")
    path = sign_model(here / "wine" / "model", "key.pem")
    letsam.load("wine", key="key.pub")
    manifest = str(here / "wine" / "model" / "manifest.json")
    check = ("pkeyutl", "-verify", "-pubin", "-inkey", "key.pub", "-rawin", "-in", manifest, "-sigfile", str(path))
    assert "Signature Verified Successfully" in openssl(*check)
