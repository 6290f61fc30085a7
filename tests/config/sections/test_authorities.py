"""Tests of `ca_file`, a file of certificate authorities: it is checked when the configuration is loaded, and then
watched.
"""

import json

import pytest

from gateway.config.findings import ConfigError
from gateway.config.load import loads
from tests.helpers.gateway import EVERYTHING
from tests.helpers.tls import authority


@pytest.fixture(scope="module")
def pem(tmp_path_factory):
    certificate, key = authority(tmp_path_factory.mktemp("authority"), "private")
    return certificate.read_bytes(), key.read_bytes()


def loaded(folder, ca_file, baseurl="https://models.test"):
    provider = {"baseurl": baseurl, "models": ["m"], "apikey": "", "ca_file": ca_file}
    return loads(json.dumps({"providers": {"p": provider}, "grants": EVERYTHING}), folder=folder)


@pytest.mark.parametrize("before", [b"", b"# the authority of the company\n", b"\r\n"])
def test_a_file_of_authorities_is_read_and_watched(tmp_path, pem, before):
    (tmp_path / "ca.pem").write_bytes(before + pem[0] * 2)
    for name in ("ca.pem", str(tmp_path / "ca.pem")):
        result = loaded(tmp_path, name)
        assert result.config.providers["p"].authorities == (before + pem[0] * 2).decode()
        assert tmp_path / "ca.pem" in result.watched
        assert result.warnings == ()


def test_without_a_file_the_systems_authorities_count(tmp_path):
    assert loaded(tmp_path, "").config.providers["p"].authorities == ""


CERTIFICATE = b"-----BEGIN CERTIFICATE-----\n%s-----END CERTIFICATE-----\n"
FAULTS = {
    "a missing file": (
        None,
        r"there is no file .*ca\.pem; correct the path, or write certificates in PEM format into it",
    ),
    "a folder": ("folder", r"ca\.pem is no regular file; name a file with certificates in PEM format"),
    "an empty file": (b"", "holds no certificate; write certificates in PEM format"),
    "text": (b"hello", "holds no certificate; write certificates in PEM format"),
    "DER": (b"\x30\x82\x01\xff", "is not in PEM format; write certificates"),
    "a key": (b"key", "holds a private key; it must hold the certificates of authorities only"),
    "damage": (CERTIFICATE % b"aGVsbG8=\n", "holds a certificate that cannot be read"),
    "no base64": (CERTIFICATE % b"!!!!\n", "holds a certificate that cannot be read"),
    "no end": (CERTIFICATE[:28], "holds a certificate that cannot be read"),
    "a large file": (b"a" * 3_000_000, "is larger than 2097152 bytes"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_file_that_cannot_be_used_is_an_error_that_says_what_is_right(tmp_path, pem, name):
    content, message = FAULTS[name]
    file = tmp_path / "ca.pem"
    if content == "folder":
        file.mkdir()
    elif content is not None:
        file.write_bytes(pem[0] + pem[1] if content == b"key" else content)
    with pytest.raises(ConfigError, match=message) as caught:
        loaded(tmp_path, "ca.pem")
    assert "providers.p.ca_file" in str(caught.value)


@pytest.mark.parametrize(
    ("value", "message"),
    [(5, "string"), ([], "string"), (" ", "must be the path of a file"), ("a\nb", "path of a file")],
)
def test_a_value_that_is_no_path_is_an_error(tmp_path, value, message):
    with pytest.raises(ConfigError, match=message):
        loaded(tmp_path, value)


def test_a_file_without_effect_is_a_warning(tmp_path, pem):
    (tmp_path / "ca.pem").write_bytes(pem[0])
    (warning,) = loaded(tmp_path, "ca.pem", "http://models.test").warnings
    assert (warning.path, warning.message.startswith("has no effect")) == ("providers.p.ca_file", True)
