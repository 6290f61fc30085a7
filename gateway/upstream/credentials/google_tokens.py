"""Access tokens for Google's APIs, by the private key of a service account.

- A JWT that is signed with the private key is exchanged for an access token at Google's token endpoint (RFC 7523). The
  token is sent as the provider's key.
- The token endpoint refuses a JWT whose time is wrong by some minutes. The gateway then corrects its clock by the
  header `Date` of the refusal, and sends the request again.
- A redirect is never followed, because its target would receive the JWT.
- cryptography is imported at the first use, because only providers with such a key need it (the extra `google`).

Source: "Using OAuth 2.0 for Server to Server Applications" in Google's identity documentation. The key file is read in
`config/sections/service_accounts.py`.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode, urlsplit

import orjson

from gateway.config.credentials import ServiceAccount
from gateway.config.model import Provider, Timeouts
from gateway.config.sections.service_accounts import TOKEN_HOSTS
from gateway.contract.errors import GatewayError
from gateway.contract.flag import UpstreamRequest
from gateway.upstream.client import Upstream
from gateway.upstream.credentials.clock import Clock
from gateway.upstream.credentials.renewal import CredentialFailed, Obtained, Renewed
from gateway.upstream.credentials.sigv4 import Signer
from gateway.upstream.credentials.values import Key
from gateway.upstream.subjects import Subject

JWT_SECONDS: Final = 3600
"""Seconds for which a JWT is valid: Google's maximum. It is also the longest life of an access token."""
BEGUN_SECONDS: Final = 60
"""Seconds by which the time in a JWT is set back. So the JWT is accepted even if this machine's clock is a little
ahead.
"""
MAX_REPLY: Final = 64 * 1024
"""Maximum number of bytes of the endpoint's reply. A token is about 1,000 bytes long."""
MAX_TOKEN: Final = 16 * 1024
"""Maximum number of characters of an access token. A provider refuses a longer header."""
MAX_REASON: Final = 200
"""Maximum number of characters of a message from the token endpoint that an error quotes."""
_TIMEOUTS: Final = Timeouts(connect_seconds=5, head_seconds=10, read_seconds=10)
_GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_AUDIENCE: Final = "https://oauth2.googleapis.com/token"
"""The audience (`aud`) of JWTs for Google's token endpoint, whichever of the endpoint's hosts is called.

For any other endpoint, the audience is the endpoint's own URL, so that the endpoint cannot use the JWT at Google.
"""

_NEW_KEY: Final = "create a new key of the account, and write its file in place of the old one"
_REMEDIES: Final = (
    # words of the endpoint's error, in lower case: what to do
    ("invalid jwt signature", f"the key may have been deleted: {_NEW_KEY}"),
    ("account not found", "correct the account, which was deleted or disabled, or name the key file of another"),
    ("reasonable timeframe", "set the machine's clock"),
    ("invalid_scope", 'correct "google": {"scopes": [...]} of the provider'),
    ("disabled", "enable the service account or its key in Google Cloud"),
    ("invalid_grant", _NEW_KEY),
)
_OTHER: Final = "compare the account and its key with those in Google Cloud"
_LATER: Final = "wait, because the endpoint is asked again, or look at Google Cloud's status page"


class _Reply(NamedTuple):
    """A reply of the token endpoint."""

    status: int
    members: Mapping[str, Any]
    date: str
    """The header `Date`. It is "" if there is none."""

    @property
    def reason(self) -> str:
        """The endpoint's reason for a refusal: a code and a message."""
        words = [self.members.get(name) for name in ("error", "error_description")]
        line = ": ".join(" ".join(word.split()) for word in words if isinstance(word, str) and word)
        return "".join(letter if letter.isprintable() else " " for letter in line)[:MAX_REASON]


class GoogleAccess:
    """The access token of one service account. `failed` is called after each failure to obtain it."""

    def __init__(
        self,
        account: ServiceAccount,
        clock: Clock,
        upstream: Upstream,
        threads: Executor,
        failed: Callable[[CredentialFailed], None],
    ) -> None:
        url = urlsplit(account.token_uri)
        self._account = account
        self._clock = clock
        self._upstream = upstream
        self._threads = threads
        self._path = url.path or "/"
        origin = f"{url.scheme}://{url.netloc}"
        self._endpoint = Provider(f"the token endpoint {url.netloc}", origin, authorities=account.authorities)
        self._token: Renewed[Signer | Key] = Renewed(self._obtain, clock.now, failed)
        self._pem = account.key.value.encode()

    def credential(self, _subject: Subject) -> Renewed[Signer | Key]:
        """Return the token, which is the same for all callers."""
        return self._token

    async def has_other(self, _subject: Subject, refused: Signer | Key, date: str) -> bool:
        """Return whether there is a token other than `refused`. If necessary, a new token is requested.

        Before that, the clock is corrected by `date`, the header `Date` of the refusal. With a wrong clock, the refused
        token may have expired unnoticed.
        """
        self._clock.learn(date)
        return await self._token.other_than(refused) is not None

    async def _obtain(self) -> Obtained[Signer | Key]:
        reply = await self._ask()
        if reply.status in {400, 401} and self._clock.learn(reply.date):
            reply = await self._ask()
        if reply.status != 200:
            raise self._refusal(reply)
        token, seconds = reply.members.get("access_token"), reply.members.get("expires_in")
        if not _is_token(token) or isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds <= 0:
            raise CredentialFailed(f"{self._endpoint.id} answered 200 without a token and its expiry", _OTHER)
        source = f"token of {self._account.email}"
        return Obtained(Key(str(token), source), self._clock.now() + min(seconds, JWT_SECONDS))

    async def _ask(self) -> _Reply:
        """Ask the endpoint for a token. Raises `CredentialFailed` if there is no reply."""
        now = int(self._clock.now())
        loop = asyncio.get_running_loop()
        assertion = await loop.run_in_executor(self._threads, assertion_of, self._account, self._pem, now)
        body = urlencode({"grant_type": _GRANT, "assertion": assertion}).encode()
        headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
        request = UpstreamRequest("POST", self._path, headers=headers, body=body)
        try:
            response = await self._upstream.open(self._endpoint, request, {}, _TIMEOUTS)
            try:
                content = await response.read(MAX_REPLY, lambda _size: None)
            finally:
                response.close()
        except GatewayError as error:
            raise CredentialFailed(error.problem.message, "let the gateway reach the address") from None
        try:
            members = orjson.loads(content)
        except orjson.JSONDecodeError:
            members = {}
        is_object = isinstance(members, dict)
        return _Reply(response.head.status, members if is_object else {}, response.head.headers.get("date", ""))

    def _refusal(self, reply: _Reply) -> CredentialFailed:
        key = f" (key {self._account.key_id})" if self._account.key_id else ""
        what = f"{self._endpoint.id} answered {reply.status} for {self._account.email}{key}"
        if reply.status >= 500 or reply.status == 429:
            return CredentialFailed(what, _LATER)
        if reply.status < 400:
            return CredentialFailed(f"{what}, which is no token", 'correct "google": {"token_uri": ...}')
        words = reply.reason.lower()
        remedy = next((remedy for sign, remedy in _REMEDIES if sign in words), _OTHER)
        return CredentialFailed(f"{what}: {reply.reason or 'no reason given'}", remedy)


def assertion_of(account: ServiceAccount, pem: bytes, now: int) -> str:
    """Return the JWT that requests an access token, signed with RS256 (RFC 7515, RFC 7518). `now` is the Unix time.

    This takes about a millisecond. The private key was checked when the configuration was loaded.
    """
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    key = load_pem_private_key(pem, None, unsafe_skip_rsa_key_validation=True)
    assert isinstance(key, RSAPrivateKey)
    header = {"alg": "RS256", "typ": "JWT", **({"kid": account.key_id} if account.key_id else {})}
    is_googles = urlsplit(account.token_uri).netloc in TOKEN_HOSTS
    begun = now - BEGUN_SECONDS
    claims = {
        "iss": account.email,
        "scope": " ".join(account.scopes),
        "aud": _AUDIENCE if is_googles else account.token_uri,
        "iat": begun,
        "exp": begun + JWT_SECONDS,
    }
    signed = b".".join(_base64url(orjson.dumps(part)) for part in (header, claims))
    return b".".join((signed, _base64url(key.sign(signed, PKCS1v15(), SHA256())))).decode()


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _is_token(value: Any) -> bool:
    """Return whether a value can be sent in a header as a bearer token, and has at most `MAX_TOKEN` characters."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_TOKEN:
        return False
    return value.isascii() and value.isprintable() and " " not in value
