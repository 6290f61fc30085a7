"""The key `ca_file` of a provider: a file with the certificates of the certificate authorities that the gateway
accepts.

The file is read when the configuration is loaded, and watched for changes like the files of secrets. Connections are
made in `gateway/upstream/http1/`. The files of a listener's certificate (`tls.py`) are read in the same way.
"""

from __future__ import annotations

import ssl
import stat
from pathlib import Path as FilePath
from typing import Final

from gateway.config.document.hujson import Path
from gateway.config.document.watch import stamps
from gateway.config.reading import Reading

MAX_BYTES: Final = 2 * 1024 * 1024
"""Maximum size of the file in bytes. The bundle of all public authorities has a tenth of this size."""
_RIGHT: Final = 'write certificates in PEM format into it ("-----BEGIN CERTIFICATE-----")'


def read_authorities(name: str, path: Path, reading: Reading) -> str:
    """Return the text of the file `name`, which has the certificates of authorities in PEM format.

    Return "" if `name` is "". If the file has a fault, report the fault, and return "". If `name` is a relative path,
    it is relative to the folder of the configuration.
    """
    if not name:
        return ""
    file = watched(name, reading)
    try:
        text = pem_text(file)
        check_authorities(text, file)
    except ValueError as error:
        reading.report.error(path, str(error))
        return ""
    return text


def watched(name: str, reading: Reading) -> FilePath:
    """Return the path of the file `name`, and have the file watched for changes."""
    file = reading.folder / name
    if file not in reading.files:
        reading.files |= stamps([file])
    return file


def pem_text(file: FilePath) -> str:
    """Return the text of the file. Raises `ValueError` with the reason if the file cannot be read or is no text."""
    try:
        # reading from a pipe or a device could wait for ever
        if not stat.S_ISREG(file.stat().st_mode):
            raise ValueError(f"{file} is no regular file; name a file with certificates in PEM format")
        with file.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError, UnicodeEncodeError):
        raise ValueError(f"there is no file {file}; correct the path, or {_RIGHT}") from None
    except OSError as error:
        raise ValueError(f"the file {file} cannot be read: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise ValueError(f"the file {file} is larger than {MAX_BYTES} bytes; {_RIGHT}")
    try:
        return data.decode("ascii")
    except UnicodeDecodeError:
        raise ValueError(f"the file {file} is not in PEM format; {_RIGHT}") from None


def check_authorities(text: str, file: FilePath) -> None:
    """Raise `ValueError` if the text has a private key, no certificate, or an unreadable certificate."""
    if "PRIVATE KEY-----" in text:
        raise ValueError(f"the file {file} holds a private key; it must hold the certificates of authorities only")
    if "-----BEGIN CERTIFICATE-----" not in text:
        raise ValueError(f"the file {file} holds no certificate; {_RIGHT}")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except ssl.SSLError as error:
        cause = (error.reason or "it is damaged").lower().replace("_", " ")
        raise ValueError(f"the file {file} holds a certificate that cannot be read ({cause}); {_RIGHT}") from None
