"""Certificates for tests."""

import ssl
import subprocess

_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def certified(folder, host):
    """Return the paths of a self-signed certificate for `host`, and of its key."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    _openssl("req", "-x509", *_NEW_KEY, "-keyout", key, "-out", certificate, "-days", "2", "-subj", f"/CN={host}",
             "-addext", f"subjectAltName=DNS:{host}")  # fmt: skip
    return certificate, key


def authority(folder, name):
    """Return the paths of an authority's certificate, and of its key."""
    key, certificate = folder / f"{name}.key", folder / f"{name}.pem"
    _openssl("req", "-x509", *_NEW_KEY, "-keyout", key, "-out", certificate, "-days", "2", "-subj", f"/CN={name}",
             "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign")  # fmt: skip
    return certificate, key


def signed(by, host):
    """Return the paths of a certificate for `host`, and of its key. The authority `by` has signed the certificate."""
    authority_certificate, authority_key = by
    key, request = (authority_key.with_suffix(suffix) for suffix in (".host-key", ".request"))
    certificate, names = (authority_key.with_suffix(suffix) for suffix in (".host", ".names"))
    names.write_text(f"subjectAltName=DNS:{host}\nauthorityKeyIdentifier=keyid\n")
    _openssl("req", *_NEW_KEY, "-keyout", key, "-out", request, "-subj", f"/CN={host}")
    _openssl("x509", "-req", "-in", request, "-CA", authority_certificate, "-CAkey", authority_key, "-CAcreateserial",
             "-days", "2", "-extfile", names, "-out", certificate)  # fmt: skip
    return certificate, key


def server_tls(certificate, key):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def _openssl(*arguments):
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)
