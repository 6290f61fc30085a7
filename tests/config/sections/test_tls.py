"""Tests of the section `tls` of a listener. An unusable file is an error whose message says what is expected."""

import json
import subprocess

import pytest

from gateway.config.findings import ConfigError
from gateway.config.load import loads
from tests.helpers.gateway import EVERYTHING
from tests.helpers.tls import certified


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return the bytes of four PEM files: a certificate, its key, the key of another certificate, and the first key
    encrypted with a password.
    """
    (one, key), (_, other) = (certified(tmp_path_factory.mktemp("tls"), "ai.example.ts.net") for _ in range(2))
    locked = key.with_suffix(".locked")
    command = ["openssl", "pkcs8", "-topk8", "-in", key, "-out", locked, "-passout", "pass:secret"]
    subprocess.run(command, check=True, capture_output=True)
    return {path: path.read_bytes() for path in (one, key, other, locked)}.values()


def loaded(folder, listen="127.0.0.1:0", identity="loopback", **tls):
    tls = {"certificate": "c.pem", "key": "k.pem", **tls}
    listener = {"listen": listen, "identity": identity, "tls": tls}
    return loads(
        json.dumps({"providers": {}, "grants": EVERYTHING, "server": {"listeners": [listener]}}), folder=folder
    )


def errors(folder, **more):
    with pytest.raises(ConfigError) as refused:
        loaded(folder, **more)
    return [(finding.path, finding.message) for finding in refused.value.findings if finding.severity == "error"]


def test_a_certificate_and_its_key_are_read_and_watched(tmp_path, made):
    certificate, key, *_ = made
    (tmp_path / "c.pem").write_bytes(certificate)
    (tmp_path / "k.pem").write_bytes(key)
    (tmp_path / "ca.pem").write_bytes(certificate)
    result = loaded(tmp_path, client_ca="ca.pem")
    (listener,) = result.config.server.listeners
    assert (listener.tls.certificate, listener.tls.key, listener.tls.client_ca) == ("c.pem", "k.pem", "ca.pem")
    assert {tmp_path / name for name in ("c.pem", "k.pem", "ca.pem")} <= result.watched
    assert "SSLContext" not in repr(listener)
    # a certificate that is renewed is no change of the listener, which would need a restart
    assert loaded(tmp_path, client_ca="ca.pem").config.server.listeners == (listener,)


FAULTS = {
    "no files": (None, None, [("certificate", "there is no file"), ("key", "there is no file")]),
    "an empty certificate": (b"", "key", [("certificate", "holds no certificate")]),
    "the two in the wrong place": (
        "key",
        "certificate",
        [("certificate", "holds no certificate"), ("key", "holds no private key")],
    ),
    "another key": ("certificate", "other", [("key", "does not belong to the first certificate")]),
    "a key with a password": ("certificate", "locked", [("key", "has a password; write it without one")]),
    "damage": (b"-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n", "key", [("key", "cannot be used")]),
    "binary": (b"\xff\xfe", "key", [("certificate", "is not in PEM format")]),
}


@pytest.mark.parametrize("name", FAULTS)
def test_files_that_cannot_be_used_are_errors_that_name_the_member(tmp_path, made, name):
    contents = dict(zip(("certificate", "key", "other", "locked"), made, strict=True))
    certificate, key, expected = FAULTS[name]
    for file, content in (("c.pem", certificate), ("k.pem", key)):
        if content is not None:
            (tmp_path / file).write_bytes(contents.get(content, content))
    found = errors(tmp_path)
    assert [path.rpartition(".")[2] for path, _ in found] == [member for member, _ in expected]
    for (_, message), (_, words) in zip(found, expected, strict=True):
        assert words in message


@pytest.mark.parametrize("content", [None, b"", b"hello"])
def test_a_file_of_client_authorities_that_cannot_be_used_is_an_error(tmp_path, made, content):
    certificate, key, *_ = made
    (tmp_path / "c.pem").write_bytes(certificate)
    (tmp_path / "k.pem").write_bytes(key)
    if content is not None:
        (tmp_path / "ca.pem").write_bytes(content)
    ((path, message),) = errors(tmp_path, client_ca="ca.pem")
    assert path.endswith(".tls.client_ca")
    assert "ca.pem" in message


@pytest.mark.parametrize(
    ("listen", "identity", "words"),
    [
        ("unix:/run/irisgate/http.sock", "serve-headers", "leave it out"),
        ("127.0.0.1:0", "proxy-protocol", "--tls-terminated-tcp"),
    ],
)
def test_a_listener_for_which_tls_makes_no_sense_is_an_error(tmp_path, listen, identity, words):
    ((_, message),) = errors(tmp_path, listen=listen, identity=identity)
    assert words in message


@pytest.mark.parametrize("tls", [{}, {"certificate": "c.pem"}, {"certificate": "", "key": ""}, {"key": 1}])
def test_a_section_without_its_members_is_an_error(tmp_path, tls):
    listener = {"listen": "127.0.0.1:0", "tls": tls}
    text = json.dumps({"providers": {}, "grants": EVERYTHING, "server": {"listeners": [listener]}})
    with pytest.raises(ConfigError):
        loads(text, folder=tmp_path)
