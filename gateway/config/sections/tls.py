"""The section `tls` of a listener: its certificate and private key, and authorities for clients' certificates.

The section names files, because OpenSSL loads a certificate and its key only from files. The files are read when the
configuration is loaded, and watched for changes. Each loading makes an `SSLContext` from the files. The context is used
for new connections (`gateway/web/tls.py`).
"""

from __future__ import annotations

import ssl
from pathlib import Path as FilePath
from typing import Any, Final

from pydantic import Field

from gateway.config.document.hujson import Path
from gateway.config.fields import FilePath as WrittenPath
from gateway.config.reading import Reading
from gateway.config.section import Section
from gateway.config.sections.authorities import check_authorities, pem_text, watched
from gateway.config.server import ListenerTls

_CERTIFICATE: Final = "-----BEGIN CERTIFICATE-----"
_KEY: Final = "PRIVATE KEY-----"


class TlsSection(Section):
    """The TLS settings of a listener. Clients then call the listener by `https://`."""

    certificate: WrittenPath = Field(
        min_length=1,
        description="A file in PEM format with the listener's certificate, followed by those of the authorities "
        'between it and the root: "ai.example.ts.net.crt".',
        examples=['"certificate": "ai.example.ts.net.crt"'],
    )
    key: WrittenPath = Field(
        min_length=1,
        description="A file in PEM format with the certificate's private key, without a password: "
        '"ai.example.ts.net.key".',
        examples=['"key": "ai.example.ts.net.key"'],
    )
    client_ca: WrittenPath = Field(
        "",
        description="A file in PEM format with authorities. Each client then needs a certificate that one of them has "
        'signed: "clients.pem". The certificate does not say who calls; "identity" does.',
    )


def read_tls(raw: Any, path: Path, reading: Reading) -> ListenerTls | None:
    """Return the TLS settings of a listener. Return None if the section is invalid.

    If a file that the section names has a fault, report the fault and return the settings.
    """
    section = reading.section(TlsSection, raw, path)
    if section is None:
        return None
    context = _context()
    certificate, key = watched(section.certificate, reading), watched(section.key, reading)
    faults = _faults(certificate, key)
    for name, fault in faults.items():
        reading.report.error((*path, name), fault)
    if not faults and (fault := _load(context, certificate, key)):
        reading.report.error((*path, "key"), fault)
    if section.client_ca and (fault := _require_clients(context, watched(section.client_ca, reading))):
        reading.report.error((*path, "client_ca"), fault)
    return ListenerTls(section.certificate, section.key, section.client_ca, context)


def _context() -> ssl.SSLContext:
    """Return TLS settings without a certificate. Python's defaults allow only TLS 1.2 and 1.3, with forward secrecy."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


def _faults(certificate: FilePath, key: FilePath) -> dict[str, str]:
    """Return the faults of the two files, by the key that names the file (`certificate` or `key`)."""
    faults = {}
    for name, file, mark, words in (
        ("certificate", certificate, _CERTIFICATE, f'certificate; write one in PEM format into it ("{_CERTIFICATE}")'),
        ("key", key, _KEY, 'private key; write one in PEM format into it ("-----BEGIN PRIVATE KEY-----")'),
    ):
        try:
            if mark not in pem_text(file):
                faults[name] = f"the file {file} holds no {words}"
        except ValueError as error:
            faults[name] = str(error)
    return faults


def _load(context: ssl.SSLContext, certificate: FilePath, key: FilePath) -> str:
    """Load the certificate and the key into `context`. Return the reason if that fails, and "" if it succeeds."""

    def refuse() -> str:
        raise ValueError(f"the key in {key} has a password; write it without one")

    try:
        context.load_cert_chain(certificate, key, refuse)
    except ValueError as error:
        return str(error)
    except OSError as error:  # `ssl.SSLError` is one
        reason = (getattr(error, "reason", "") or error.strerror or "damaged").lower().replace("_", " ")
        if reason == "key values mismatch":
            return f"the key in {key} does not belong to the first certificate in {certificate}"
        return f"{certificate} and {key} cannot be used ({reason}); write a certificate and its key in PEM format"
    return ""


def _require_clients(context: ssl.SSLContext, file: FilePath) -> str:
    """Require clients to have a certificate that an authority in the file has signed.

    Return what is wrong with the file, or "".
    """
    try:
        text = pem_text(file)
        check_authorities(text, file)
    except ValueError as error:
        return str(error)
    context.load_verify_locations(cadata=text)
    context.verify_mode = ssl.CERT_REQUIRED
    return ""
