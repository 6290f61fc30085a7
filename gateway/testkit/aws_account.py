"""A simulated AWS account: its access keys, its clock, and checks of signed requests.

botocore computes the expected signatures, so that a mistake of the gateway's own signer is noticed.
"""

from __future__ import annotations

import base64
import importlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from math import inf
from time import time
from typing import Any, Final
from urllib.parse import parse_qs

from gateway.testkit.simulator import Seen

TOLERANCE_SECONDS: Final = 300.0
"""Maximum difference, in seconds, between the time of a signature and the time at AWS."""
_AUTHORIZATION: Final = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([a-z0-9-]+)/([a-z0-9-]+)/aws4_request, "
    r"SignedHeaders=([a-z0-9;_-]+), Signature=([0-9a-f]{64})"
)
_STAMP: Final = "%Y%m%dT%H%M%SZ"
KEY_PREFIX: Final = "bedrock-api-key-"

UNKNOWN: Final = "The security token included in the request is invalid."
EXPIRED: Final = "The security token included in the request is expired"
MISMATCH: Final = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key "
    "and signing method. Consult the service documentation for details."
)


@dataclass(slots=True)
class AccessKey:
    """An access key of the account. `session` has the role session to which the key belongs."""

    id: str
    secret: str = field(repr=False)
    token: str = field(repr=False)
    expires_at: float = inf
    """Unix time in seconds at which the key expires, by the account's clock."""
    session: Mapping[str, Any] = field(default_factory=dict)
    """The parameters of AssumeRole, if the key belongs to a role session. The mapping is empty for any other key."""
    uses: int = 0
    """The number of accepted requests with this key."""


class Unauthorized(Exception):
    """The exception for a credential that is refused. `name` is the name of the error at bedrock-runtime."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name
        self.message = message


class AwsAccount:
    """A simulated AWS account. It issues access keys, and checks the credentials of requests.

    The account's clock runs `offset` seconds ahead of this machine's clock.
    """

    def __init__(self, offset: float = 0.0) -> None:
        self.offset = offset
        self.keys: dict[str, AccessKey] = {}

    def now(self) -> float:
        return time() + self.offset

    @property
    def date(self) -> str:
        """The value of the header `Date` in replies, by the account's clock."""
        return format_datetime(datetime.fromtimestamp(self.now(), UTC), usegmt=True)

    def issue(self, seconds: float | None = None, **session: Any) -> AccessKey:
        """Return a new access key: a temporary key that is valid for `seconds`, or a user's long-term key if `seconds`
        is None.

        `session` has the parameters of AssumeRole if the key belongs to a role session (`AccessKey.session`).
        """
        token = "" if seconds is None else secrets.token_urlsafe(60)
        expires_at = inf if seconds is None else self.now() + seconds
        name = ("AKIA" if seconds is None else "ASIA") + secrets.token_hex(8).upper()
        key = self.keys[name] = AccessKey(name, secrets.token_urlsafe(30), token, expires_at, session)
        return key

    def judge(self, seen: Seen, service: str, region: str) -> AccessKey:
        """Return the access key with which a request was signed, or the access key of its short-term API key.

        Raises `Unauthorized` if the signature or the API key is wrong, for example because it is for another region or
        service.
        """
        authorization = seen.headers.get("authorization", "")
        if authorization.startswith(f"Bearer {KEY_PREFIX}"):
            key = self._judge_api_key(authorization.removeprefix("Bearer "), region)
        else:
            key = self._judge_signature(authorization, seen, service, region)
        key.uses += 1
        return key

    def _judge_signature(self, authorization: str, seen: Seen, service: str, region: str) -> AccessKey:
        match = _AUTHORIZATION.fullmatch(authorization)
        if match is None:
            raise Unauthorized("MissingAuthenticationTokenException", "Missing Authentication Token")
        key_id, day, signed_region, signed_service, signed, signature = match.groups()
        key = self._key(key_id, seen.headers.get("x-amz-security-token", ""))
        if (signed_region, signed_service) != (region, service):
            raise Unauthorized(
                "InvalidSignatureException", f"Credential should be scoped to a valid region and to {service}."
            )
        stamp = seen.headers.get("x-amz-date", "")
        names = signed.split(";")
        unsigned = [name for name in seen.headers if name.startswith("x-amz-") and name not in names]
        if not stamp.startswith(day) or "host" not in names or unsigned:
            raise Unauthorized("InvalidSignatureException", f"'host' and 'x-amz-*' must be signed: {unsigned}")
        self._check_time(stamp)
        # S3 signs paths as they are sent, and other services encode them once more
        signing = _module("auth").S3SigV4Auth if service == "s3" else _module("auth").SigV4Auth
        auth = signing(_botocores(key), service, region)
        url = f"https://{seen.headers['host']}{seen.path}" + (f"?{seen.query}" if seen.query else "")
        headers = {name: seen.headers.get(name, "") for name in names}
        request = _module("awsrequest").AWSRequest(seen.method, url, headers, seen.body)
        if _signature(auth, request, stamp) != signature:
            canonical = f"The Canonical String for this request should have been\n'{auth.canonical_request(request)}'"
            raise Unauthorized("InvalidSignatureException", f"{MISMATCH}\n\n{canonical}")
        return key

    def _judge_api_key(self, api_key: str, region: str) -> AccessKey:
        url = base64.b64decode(api_key.removeprefix(KEY_PREFIX)).decode()
        place, _, query = url.partition("?")
        values = {name: value[0] for name, value in parse_qs(query, strict_parsing=True).items()}
        key_id, day, signed_region, signed_service, _ = values["X-Amz-Credential"].split("/")
        key = self._key(key_id, values.get("X-Amz-Security-Token", ""))
        stamp = values["X-Amz-Date"]
        begun = datetime.strptime(stamp, _STAMP).replace(tzinfo=UTC).timestamp()
        if not begun - TOLERANCE_SECONDS <= self.now() < begun + int(values["X-Amz-Expires"]):
            raise Unauthorized("AccessDeniedException", "Bearer Token has expired")
        expected = place, values["Action"], values["Version"], signed_region, signed_service, stamp[:8]
        if expected != ("bedrock.amazonaws.com/", "CallWithBearerToken", "1", region, "bedrock", day):
            raise Unauthorized("AccessDeniedException", "Invalid API Key format")
        unsigned, _, signature = query.removesuffix("&Version=1").partition("&X-Amz-Signature=")
        auth = _module("auth").SigV4QueryAuth(_botocores(key), "bedrock", region)
        request = _module("awsrequest").AWSRequest("POST", f"https://{place}?{unsigned}", {"host": place[:-1]}, b"")
        if _signature(auth, request, stamp) != signature:
            raise Unauthorized("AccessDeniedException", "Authentication failed: the API Key is not valid.")
        return key

    def _key(self, key_id: str, token: str) -> AccessKey:
        key = self.keys.get(key_id)
        if key is None or key.token != token:
            raise Unauthorized("UnrecognizedClientException", UNKNOWN)
        if key.expires_at <= self.now():
            raise Unauthorized("ExpiredTokenException", EXPIRED)
        return key

    def _check_time(self, stamp: str) -> None:
        signed, now = datetime.strptime(stamp, _STAMP).replace(tzinfo=UTC).timestamp(), self.now()
        here = datetime.fromtimestamp(now, UTC).strftime(_STAMP)
        if signed < now - TOLERANCE_SECONDS:
            words = f"Signature expired: {stamp} is now earlier than {here} (- 5 min.)"
            raise Unauthorized("InvalidSignatureException", words)
        if signed > now + TOLERANCE_SECONDS:
            words = f"Signature not yet current: {stamp} is still later than {here} (+ 5 min.)"
            raise Unauthorized("InvalidSignatureException", words)


def _module(name: str) -> Any:
    return importlib.import_module(f"botocore.{name}")


def _botocores(key: AccessKey) -> Any:
    return _module("credentials").Credentials(key.id, key.secret, key.token or None)


def _signature(auth: Any, request: Any, stamp: str) -> str:
    request.context["timestamp"] = stamp
    return str(auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request))
