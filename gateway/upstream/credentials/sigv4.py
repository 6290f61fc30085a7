"""AWS Signature Version 4: the headers that sign a request, and the short-term API keys of Bedrock.

- The functions are pure: the caller gives the time, and the request as it is sent.
- The path of a request is already percent-encoded. For the signature, it is encoded once more, as every service except
  S3 demands. For example, the `%3A` of a model id is signed as `%253A`.
- The caller gives the hash of a body, and not the body. S3 demands the hash in a header too, which the caller adds.

Sources: "Create a signed AWS API request" in AWS's IAM user guide; botocore's module auth; the repository
aws/aws-bedrock-token-generator-python for the API keys. Credentials are obtained in `aws_chain.py`.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from math import inf
from time import gmtime, strftime
from typing import Final
from urllib.parse import quote

_ALGORITHM: Final = "AWS4-HMAC-SHA256"
S3: Final = "s3"
"""The name of S3 in signatures. For S3, the path is signed as it is sent, without a second encoding."""
EMPTY_PAYLOAD: Final = sha256(b"").hexdigest()
_KEY_HOST: Final = "bedrock.amazonaws.com"
"""The host in every short-term API key, whatever the region is. A key contains a signed request to this host."""
_KEY_PREFIX: Final = "bedrock-api-key-"
KEY_SECONDS: Final = 12 * 3600
"""Seconds for which a short-term API key is valid: Bedrock's maximum. A key expires earlier if its credentials do."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """AWS credentials. Only the secret access key and the session token are secret."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)
    """The token of temporary credentials. It is "" for the long-term key of an IAM user."""
    expires_at: float = inf
    """Unix time in seconds, by AWS's clock, at which the credentials expire. It is infinite for a long-term key."""
    source: str = ""
    """The origin of the credentials as text, for log and error messages: a step of botocore's chain, or a role."""


@dataclass(frozen=True, slots=True)
class Signable:
    """The parts of a request that a signature covers."""

    method: str
    host: str
    """The value of the header `host`, with the port if it is not the scheme's usual port."""
    path: str
    """The path as it is sent, percent-encoded."""
    query: str = ""
    """The query as it is sent, percent-encoded, without `?`."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Headers to sign in addition to `host`, with names in lower case. No intermediary may change these headers."""
    payload: str = EMPTY_PAYLOAD
    """The SHA-256 of the body in hexadecimal digits."""


class Signer:
    """Signs requests to one service in one region with the same credentials.

    The signing key depends on the day, and is derived once for each day. This saves four of the five HMACs of each
    further signature.
    """

    __slots__ = ("_day", "_key", "_scope", "credentials", "region", "service")

    def __init__(self, credentials: Credentials, region: str, service: str = "bedrock") -> None:
        self.credentials = credentials
        self.region = region
        self.service = service
        self._day = self._scope = ""
        self._key = b""

    def __eq__(self, other: object) -> bool:
        """Return whether both signers have the same credentials.

        The region and the AWS service are not compared, because they are always the same for one provider.
        """
        return isinstance(other, Signer) and self.credentials == other.credentials

    def __hash__(self) -> int:
        return hash(self.credentials)

    def headers(self, request: Signable, at: float) -> dict[str, str]:
        """Return the headers that sign the request at the Unix time `at`, with names in lower case."""
        stamp = strftime("%Y%m%dT%H%M%SZ", gmtime(at))
        signing = {"x-amz-date": stamp}
        if self.credentials.session_token:
            signing["x-amz-security-token"] = self.credentials.session_token
        covered = {**request.headers, "host": request.host, **signing}
        names = sorted(covered)
        lines = [f"{name}:{_trimmed(covered[name])}\n" for name in names]
        signed = ";".join(names)
        path = request.path if self.service == S3 else _canonical_path(request.path)
        query = _canonical_query(request.query)
        signature = self._signature(
            f"{request.method}\n{path}\n{query}\n{''.join(lines)}\n{signed}\n{request.payload}", stamp
        )
        credential = f"{self.credentials.access_key_id}/{self._scope}"
        signing["authorization"] = (
            f"{_ALGORITHM} Credential={credential}, SignedHeaders={signed}, Signature={signature}"
        )
        return signing

    def api_key(self, at: float, seconds: int = KEY_SECONDS) -> str:
        """Return a short-term API key of Bedrock that is valid for `seconds`, from the Unix time `at`.

        The key is a signed URL in base64, with a fixed prefix. It is sent as a bearer token. Bedrock then checks the
        signature in the URL's query.
        """
        stamp = strftime("%Y%m%dT%H%M%SZ", gmtime(at))
        self._derive(stamp[:8])
        parts = {
            "Action": "CallWithBearerToken",
            "X-Amz-Algorithm": _ALGORITHM,
            "X-Amz-Credential": f"{self.credentials.access_key_id}/{self._scope}",
            "X-Amz-Date": stamp,
            "X-Amz-Expires": str(seconds),
            "X-Amz-SignedHeaders": "host",
        }
        if self.credentials.session_token:
            parts["X-Amz-Security-Token"] = self.credentials.session_token
        query = "&".join(f"{name}={quote(value, safe='-._~')}" for name, value in parts.items())
        request = f"POST\n/\n{_canonical_query(query)}\nhost:{_KEY_HOST}\n\nhost\n{EMPTY_PAYLOAD}"
        url = f"{_KEY_HOST}/?{query}&X-Amz-Signature={self._signature(request, stamp)}&Version=1"
        return _KEY_PREFIX + base64.b64encode(url.encode()).decode()

    def _signature(self, canonical_request: str, stamp: str) -> str:
        self._derive(stamp[:8])
        digest = sha256(canonical_request.encode("utf-8", "surrogateescape")).hexdigest()
        text = f"{_ALGORITHM}\n{stamp}\n{self._scope}\n{digest}"
        return hmac.digest(self._key, text.encode(), "sha256").hex()

    def _derive(self, day: str) -> None:
        """Derive the signing key of a day, such as `20261123`, unless it is derived already."""
        if day == self._day:
            return
        key = f"AWS4{self.credentials.secret_access_key}".encode()
        for part in (day, self.region, self.service, "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        self._key, self._scope, self._day = key, f"{day}/{self.region}/{self.service}/aws4_request", day


def _trimmed(value: str) -> str:
    """Return the value of a header without spaces at its ends, and with single spaces inside."""
    return " ".join(value.split())


def _canonical_path(path: str) -> str:
    """Return the path, encoded once more, without empty and dot segments (RFC 3986, 5.2.4)."""
    if "//" in path or "/." in path:
        path = _without_dots(path)
    return quote(path, safe="/~") or "/"


def _without_dots(path: str) -> str:
    kept: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del kept[-1:]
        elif part not in {"", "."}:
            kept.append(part)
    return "/" + "/".join(kept) + ("/" if kept and path.endswith("/") else "")


def _canonical_query(query: str) -> str:
    """Return the parameters sorted by name and value. A parameter without an equals sign gets one."""
    if not query:
        return ""
    pairs = sorted(pair.partition("=")[::2] for pair in query.split("&"))
    return "&".join(f"{name}={value}" for name, value in pairs)
