"""Google service accounts as the source of a provider's key: `"apikey": "keyfile::PATH"`, and the section `google`.

The key file is the JSON file that Google Cloud issues for a service account. It is read when the configuration is
loaded, and watched for changes like the files of secrets. Access tokens are obtained in
`gateway/upstream/credentials/google_tokens.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path as FilePath
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import orjson
from pydantic import AfterValidator, Field

from gateway.config.credentials import ServiceAccount
from gateway.config.document.hujson import Path
from gateway.config.document.secrets import KEYFILE, Secret, SecretError, file_text
from gateway.config.reading import Reading
from gateway.config.section import Section
from gateway.config.sections.authorities import watched

TOKEN_URI: Final = "https://oauth2.googleapis.com/token"  # noqa: S105 (a URL)
"""The token endpoint for a key file that names no endpoint."""
TOKEN_HOSTS: Final = ("oauth2.googleapis.com", "accounts.google.com", "www.googleapis.com")
"""Hosts of Google's token endpoint. New key files have the first host, and older key files have one of the other two.

A key file with any other host is refused. The gateway would connect to that host, and the file's author may not be the
operator of the gateway.
"""
SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
"""The scope of all Google Cloud APIs. The rights of the service account limit what a token can do."""
SMALLEST_KEY: Final = 2048
"""Minimum number of bits of a private key. Google issues keys of this size."""
_TYPE: Final = "service_account"
_UNIVERSE: Final = "googleapis.com"
_LOCAL: Final = ("localhost", "127.0.0.1", "::1")
_OTHER_TYPES: Final[Mapping[str, str]] = {
    "authorized_user": "the login of a person",
    "external_account": "a workload identity federation",
    "impersonated_service_account": "an impersonation",
}
_CREATE: Final = "create one with gcloud iam service-accounts keys create FILE --iam-account EMAIL"


def _token_uri(value: str) -> str:
    try:
        url = urlsplit(value if value.isascii() and value.isprintable() and " " not in value else "")
        is_safe = url.scheme == "https" or (url.scheme == "http" and url.hostname in _LOCAL)
        is_right = is_safe and bool(url.hostname) and url.port != 0 and not set("?#@") & set(value)
    except ValueError:
        is_right = False
    if value and not is_right:
        shown = "this" if "@" in value else json.dumps(value[:80])
        raise ValueError(f'{shown} is no https URL without user and query, such as "{TOKEN_URI}"')
    return value


def _scopes(value: tuple[str, ...]) -> tuple[str, ...]:
    for scope in value:
        if not scope.isascii() or not scope.isprintable() or not scope or " " in scope:
            raise ValueError(f'{json.dumps(scope[:80])} is no scope; write one such as "{SCOPE}"')
    return value or (SCOPE,)


class GoogleSection(Section):
    """Settings for the access tokens of a provider whose key is `keyfile::PATH`. Needs the extra `google`."""

    token_uri: Annotated[str, AfterValidator(_token_uri)] = Field(
        "",
        description="The token endpoint, in place of the one in the key file. It may be another host than Google's. "
        f'Unencrypted HTTP is for this machine only: "{TOKEN_URI}".',
    )
    scopes: Annotated[tuple[str, ...], Field(strict=False), AfterValidator(_scopes)] = Field(
        (SCOPE,), description=f'The scopes of the tokens: ["{SCOPE}"].'
    )


class _Fault(ValueError):
    """The error for a key file that cannot be used. The message never shows the private key."""


def read_service_account(
    apikey: str, google: GoogleSection, authorities: str, path: Path, reading: Reading
) -> ServiceAccount | None:
    """Return the service account of a key of the form `keyfile::PATH` or `keyfile::{...}`. Return None for any other
    key.

    If the key file has a fault, report it and return None. `path` is the path of the key in the document. `authorities`
    are the certificate authorities of the provider's `ca_file`, which are accepted at the token endpoint too.
    """
    if not apikey.startswith(KEYFILE):
        return None
    if not can_sign():
        # the configurations of other gateways may have such providers too, so this is no error
        reading.report.warn(path, "needs cryptography (install irisgate[google]); the provider is left out of routing")
        return None
    text = apikey.removeprefix(KEYFILE).strip()
    try:
        if text.startswith("{"):
            return _account(text, f'the service account after "{KEYFILE}"', "literal", google, authorities)
        file = _file(text, reading)
        return _account(file_text(file), f"the file {file}", f"file:{file}", google, authorities)
    except (_Fault, SecretError) as error:
        reading.report.error(path, str(error))
        return None


def can_sign() -> bool:
    """Return whether the package that signs with private keys is installed."""
    return find_spec("cryptography") is not None


def _file(text: str, reading: Reading) -> FilePath:
    """Return the path of a key file, and add it to the watched files. Raises `_Fault` if the text is no path."""
    if not text or not text.isprintable():
        raise _Fault(f'"{KEYFILE}" is followed by the path of a key file, such as "{KEYFILE}/etc/vertex.json"')
    try:
        return watched(str(FilePath(text).expanduser()), reading)
    except RuntimeError:
        raise _Fault('the home folder of "~" is not known; write the whole path') from None


def _account(text: str, what: str, source: str, google: GoogleSection, authorities: str) -> ServiceAccount:
    """Parse the text of a key file. Raises `_Fault` if the text has a fault.

    `what` is the name of the file in the error's message. `source` says where the private key comes from
    (`Secret.source`).
    """
    try:
        members = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise _Fault(f"{what} is no JSON (line {error.lineno}, column {error.colno}); {_CREATE}") from None
    if not isinstance(members, dict):
        raise _Fault(f"{what} holds no JSON object; {_CREATE}")
    _check_type(members, what)
    email = _member(members, "client_email", what)
    if "@" not in email:
        raise _Fault(f'{what}: "client_email" is no address such as "vertex@project.iam.gserviceaccount.com"')
    key = _member(members, "private_key", what)
    _check_key(key, what)
    key_id = _member(members, "private_key_id", what) if members.get("private_key_id") else ""
    token_uri = google.token_uri or _endpoint(members, what)
    return ServiceAccount(email, Secret(key, source), key_id, token_uri, google.scopes, authorities)


def _member(members: Mapping[str, Any], name: str, what: str) -> str:
    """Return the text in the field `name` of the key file. Raises `_Fault` if the field is missing or is no text."""
    value = members.get(name)
    if not isinstance(value, str) or not value.strip():
        state = "is no text" if name in members and not isinstance(value, str) else "is missing or empty"
        raise _Fault(f'{what}: "{name}" {state}; use the file as Google Cloud issued it, or {_CREATE}')
    if not value.isascii() or (name != "private_key" and not value.isprintable()):
        raise _Fault(f'{what}: "{name}" has characters that no key file has; {_CREATE}')
    return value


def _check_type(members: Mapping[str, Any], what: str) -> None:
    kind = members.get("type")
    if kind != _TYPE:
        shown = json.dumps(kind)[:80]
        meaning = f" ({_OTHER_TYPES[kind]})" if isinstance(kind, str) and kind in _OTHER_TYPES else ""
        raise _Fault(f'{what}: "type" is {shown}{meaning} and must be "{_TYPE}"; {_CREATE}')
    universe = members.get("universe_domain", _UNIVERSE)
    if universe != _UNIVERSE:
        shown = json.dumps(universe)[:80]
        raise _Fault(f'{what}: "universe_domain" is {shown}; only accounts of "{_UNIVERSE}" are supported')


def _check_key(pem: str, what: str) -> None:
    """Check that a private key is an RSA key of at least `SMALLEST_KEY` bits. Raises `_Fault` if it is not.

    `what` is the name of the key file in the error's message.
    """
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 (only these providers need it)
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    try:
        key = load_pem_private_key(pem.encode(), None)
    except TypeError:
        raise _Fault(f'{what}: "private_key" is encrypted; use the file as Google Cloud issued it') from None
    except (ValueError, UnsupportedAlgorithm):
        right = '"-----BEGIN PRIVATE KEY-----\\n…"'
        raise _Fault(f'{what}: "private_key" is no private key in PEM format, {right}; {_CREATE}') from None
    if not isinstance(key, RSAPrivateKey) or key.key_size < SMALLEST_KEY:
        raise _Fault(f'{what}: "private_key" is no RSA key of {SMALLEST_KEY} bits or more; {_CREATE}')


def _endpoint(members: Mapping[str, Any], what: str) -> str:
    """Return the token endpoint of a key file. Raises `_Fault` if it is not one of Google's."""
    value = members.get("token_uri", TOKEN_URI)
    try:
        url = urlsplit(value if isinstance(value, str) and value.isascii() and value.isprintable() else "")
        is_googles = url.scheme == "https" and url.netloc in TOKEN_HOSTS and not url.query and not url.fragment
    except ValueError:
        is_googles = False
    if not is_googles:
        raise _Fault(
            f'{what}: "token_uri" is {json.dumps(value)[:120]}, which is no https URL at {", ".join(TOKEN_HOSTS)}; '
            f'correct it to "{TOKEN_URI}", or name the endpoint in the provider\'s "google": {{"token_uri": ...}}'
        )
    return str(value)
