"""A simulated token endpoint of Google, with service accounts and their keys.

Every request is checked: its form, the signature of its JWT, and each claim. An issued token is valid until it expires.
A simulated provider accepts these tokens if its `keys` are the endpoint's set `tokens`.

Sources: "Using OAuth 2.0 for Server to Server Applications" in Google's identity documentation; RFC 7523; for the
errors, the issues of googleapis/google-auth-library-python and -nodejs, which quote Google's endpoint.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from time import time
from typing import Any, Final
from urllib.parse import parse_qs

import orjson
from aiohttp import web
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.testkit.simulator import Refusal, Seen, Simulator

GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
AUDIENCE: Final = "https://oauth2.googleapis.com/token"
TOLERANCE_SECONDS: Final = 300.0
"""Maximum difference, in seconds, between the time of a JWT and the time at the endpoint."""
LONGEST_SECONDS: Final = 3600
_SCOPES: Final = "https://www.googleapis.com/auth/"
_TIME: Final = (
    "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat and exp "
    "values in the JWT claim."
)


@dataclass(slots=True)
class ServiceKey:
    """A key of a service account."""

    id: str
    private: rsa.RSAPrivateKey = field(repr=False)

    @property
    def pem(self) -> str:
        return self.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


class Tokens(set[str]):
    """The access tokens that the simulated endpoint has issued. `token in tokens` is true until the token expires.

    The endpoint's own clock decides when a token expires (`GoogleSim`).
    """

    def __init__(self, google: GoogleSim) -> None:
        super().__init__()
        self._google = google
        self.expiries: dict[str, float] = {}

    def __contains__(self, token: object) -> bool:
        return isinstance(token, str) and self.expiries.get(token, 0.0) > self._google.now()


class GoogleSim(Simulator):
    """A simulated token endpoint of Google, at the path `/token`. An issued token is valid for `seconds`.

    The endpoint's clock runs `offset` seconds ahead of this machine's clock.
    """

    def __init__(self, seconds: float = 3600, offset: float = 0.0) -> None:
        super().__init__()
        self.seconds = seconds
        self.offset = offset
        self.accounts: dict[str, dict[str, ServiceKey]] = {}
        """The keys of each service account, by the account's address and the key's id."""
        self.tokens = Tokens(self)
        self.status = 200
        """The status of every reply. A status other than 200 is an outage of the endpoint."""

    def now(self) -> float:
        return time() + self.offset

    def create_key(self, email: str, private: rsa.RSAPrivateKey | None = None) -> dict[str, str]:
        """Return the content of a key file for a new key of a service account. If `private` is None, a new private key
        is made.
        """
        made = private or rsa.generate_private_key(public_exponent=65537, key_size=2048)
        key = ServiceKey(secrets.token_hex(20), made)
        self.accounts.setdefault(email, {})[key.id] = key
        return {
            "type": "service_account", "project_id": "simulated", "private_key_id": key.id, "private_key": key.pem,
            "client_email": email, "client_id": "1", "auth_uri": "https://accounts.google.com/o/oauth2/auth",
            "token_uri": AUDIENCE, "universe_domain": "googleapis.com",
        }  # fmt: skip

    def failure(self, name: str, message: str) -> Refusal:
        return Refusal(400, {"error": name, "error_description": message}, {"date": self._date})

    async def respond(self, seen: Seen, _request: web.Request) -> web.StreamResponse:
        if self.status != 200:
            return web.Response(status=self.status, headers={"date": self._date, "location": self.url})
        if (seen.method, seen.path) != ("POST", "/token"):
            raise Refusal(404, {"error": "not_found"}, {"date": self._date})
        self._judge(seen)
        token = f"ya29.{secrets.token_urlsafe(90)}"
        self.tokens.expiries[token] = self.now() + self.seconds
        members = {"access_token": token, "expires_in": self.seconds, "token_type": "Bearer"}
        return web.Response(body=orjson.dumps(members), headers={"date": self._date}, content_type="application/json")

    @property
    def _date(self) -> str:
        return format_datetime(datetime.fromtimestamp(self.now(), UTC), usegmt=True)

    def _judge(self, seen: Seen) -> None:
        """Raise `Refusal` if a request has a fault."""
        form = parse_qs(seen.body.decode(), strict_parsing=True)
        if seen.headers.get("content-type") != "application/x-www-form-urlencoded" or seen.query:
            raise self.failure("invalid_request", "Bad Request")
        if form.get("grant_type") != [GRANT] or form.keys() != {"grant_type", "assertion"}:
            raise self.failure("unsupported_grant_type", f"Invalid grant_type: {form.get('grant_type')}")
        try:
            header, claims, signed, signature = _parts(form["assertion"][0])
        except (ValueError, binascii.Error):
            raise self.failure("invalid_grant", "Invalid JWT") from None
        keys = self.accounts.get(claims.get("iss", ""))
        if keys is None:
            raise self.failure("invalid_grant", "Invalid grant: account not found")
        key = keys.get(header.get("kid", ""))
        if key is None or header != {"alg": "RS256", "typ": "JWT", "kid": key.id} or not _fits(key, signed, signature):
            raise self.failure("invalid_grant", "Invalid JWT Signature.")
        self._judge_claims(claims)

    def _judge_claims(self, claims: Mapping[str, Any]) -> None:
        begun, end, now = claims.get("iat"), claims.get("exp"), self.now()
        if not isinstance(begun, int) or not isinstance(end, int) or not 0 < end - begun <= LONGEST_SECONDS:
            raise self.failure("invalid_grant", _TIME)
        if not begun - TOLERANCE_SECONDS <= now < end or now - begun > TOLERANCE_SECONDS:
            raise self.failure("invalid_grant", _TIME)
        if claims.get("aud") not in {AUDIENCE, f"{self.url}/token"} or claims.keys() - _CLAIMS:
            raise self.failure("invalid_grant", "Invalid JWT: Failed audience check.")
        scopes = str(claims.get("scope", "")).split(" ")
        if not all(scope.startswith(_SCOPES) for scope in scopes):
            raise self.failure("invalid_scope", "Invalid OAuth scope or ID token audience provided.")


_CLAIMS: Final = frozenset({"iss", "scope", "aud", "iat", "exp"})


def _parts(assertion: str) -> tuple[dict[str, Any], dict[str, Any], bytes, bytes]:
    """Return the header and the claims of a JWT, the bytes that are signed, and the signature.

    Raises `ValueError` if the text is no JWT.
    """
    header, claims, signature = assertion.split(".")
    decoded = [orjson.loads(_decoded(part)) for part in (header, claims)]
    if not all(isinstance(part, dict) for part in decoded):
        raise ValueError("a part is no object")
    return decoded[0], decoded[1], f"{header}.{claims}".encode(), _decoded(signature)


def _decoded(text: str) -> bytes:
    if "=" in text:
        raise ValueError("JWTs have no padding")
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def _fits(key: ServiceKey, signed: bytes, signature: bytes) -> bool:
    try:
        key.private.public_key().verify(signature, signed, padding.PKCS1v15(), SHA256())
    except InvalidSignature:
        return False
    return True
