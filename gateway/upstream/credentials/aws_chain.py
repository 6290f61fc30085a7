"""Obtains AWS credentials: by botocore's chain (environment, profile, SSO, web identity, container, instance), and by
assuming a role.

- Everything here blocks, so it runs in threads. Credentials are cached in `renewal.py`, not here.
- The chain is searched from its beginning each time, so that a changed file or a new login is used.
- Requests to STS are signed by the gateway's own signer, at the corrected time (`clock.py`).
- botocore is imported at the first use, because only providers with AWS credentials need it (the extra `aws`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from hashlib import sha256
from math import inf
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from gateway.upstream.credentials.clock import Clock
from gateway.upstream.credentials.renewal import CredentialFailed
from gateway.upstream.credentials.sigv4 import Credentials, Signable, Signer

CONNECT_SECONDS: Final = 5
READ_SECONDS: Final = 10
TRIES: Final = 3
"""Maximum number of attempts of a request to STS or SSO. botocore waits about a second between two attempts."""

_NOBODY: Final = (
    'name a profile in "aws": {"profile": ...}, set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the '
    "gateway's environment, or give the machine a role"
)
_SSO: Final = "run aws sso login as the gateway's user"
_LOGIN: Final = "run aws login as the gateway's user"
_REACH: Final = "let the gateway reach the address"
_REMEDIES: Final[Mapping[str, str]] = {
    # name of botocore's exception, or code of an AWS error: what to do
    "ProfileNotFound": "write the profile into ~/.aws/config of the gateway's user, or correct its name",
    "PartialCredentialsError": "write both halves of the key, or neither",
    "SSOTokenLoadError": _SSO,
    "UnauthorizedSSOTokenError": _SSO,
    "TokenRetrievalError": _SSO,
    "UnauthorizedException": _SSO,
    "LoginRefreshRequired": _LOGIN,
    "LoginTokenLoadError": _LOGIN,
    "AccessDenied": "let the role's trust policy allow this principal sts:AssumeRole, with sts:TagSession and "
    "sts:SetSourceIdentity if those are configured, and compare the external id",
    "InvalidClientTokenId": "replace the access key, which AWS does not know",
    "ExpiredToken": "renew the session token, which has expired",
    "ExpiredTokenException": "renew the session token, which has expired",
    "InvalidIdentityToken": "compare the token's issuer and audience with the identity provider in IAM",
    "RegionDisabledException": "activate STS in the region, or name another region",
    "SignatureDoesNotMatch": "compare the secret access key with the key's id",
    "EndpointConnectionError": _REACH,
    "ConnectTimeoutError": _REACH,
    "CredentialRetrievalError": "run the profile's credential_process as the gateway's user",
}
_OTHER: Final = "run aws sts get-caller-identity as the gateway's user, with the same profile"


class RoleSession(NamedTuple):
    """The parameters of a request to assume an AWS role."""

    role_arn: str
    name: str
    seconds: int
    external_id: str = ""
    source_identity: str = ""
    tags: tuple[tuple[str, str], ...] = ()


class Chain:
    """botocore's credential chain for the AWS profile `profile`, or the default chain if `profile` is ""."""

    def __init__(self, profile: str, region: str, clock: Clock) -> None:
        self._profile = profile
        self._region = region
        self._clock = clock
        self._sts: tuple[Credentials, Any] | None = None
        """The client for STS, with the credentials by which its requests are signed."""

    def credentials(self) -> Credentials:
        """Return the credentials of the first step of the chain that has any. Raises `CredentialFailed` if none has."""
        of_profile = f" of the profile {self._profile}" if self._profile else ""
        try:
            resolved = self._session().get_credentials()
            frozen = None if resolved is None else resolved.get_frozen_credentials()
        except _errors() as error:
            raise _failure(f"the credentials{of_profile} cannot be obtained", error) from None
        if resolved is None or frozen is None:
            raise CredentialFailed(f"no step of AWS's credential chain has credentials{of_profile}", _NOBODY)
        # botocore has no public attribute for the expiry
        expiry = getattr(resolved, "_expiry_time", None)
        expires_at = inf if expiry is None else expiry.timestamp()
        source = f"{resolved.method}{of_profile}"
        return Credentials(frozen.access_key, frozen.secret_key, frozen.token or "", expires_at, source)

    def assume(self, base: Credentials, session: RoleSession) -> Credentials:
        """Assume a role with the credentials `base`, and return the role's credentials.

        Raises `CredentialFailed` if the role cannot be assumed.
        """
        try:
            try:
                return self._assume(base, session)
            except _errors() as error:
                if not self._clock.learn(_date(error)):
                    raise
            return self._assume(base, session)
        except _errors() as error:
            raise _failure(f"{session.role_arn} cannot be assumed by {base.source}", error) from None

    def _assume(self, base: Credentials, session: RoleSession) -> Credentials:
        optional = {
            "ExternalId": session.external_id,
            "SourceIdentity": session.source_identity,
            "Tags": [{"Key": key, "Value": value} for key, value in session.tags],
        }
        reply = self._client(base).assume_role(
            RoleArn=session.role_arn,
            RoleSessionName=session.name,
            DurationSeconds=session.seconds,
            **{name: value for name, value in optional.items() if value},
        )
        own = reply["Credentials"]
        expires_at, source = own["Expiration"].timestamp(), f"{session.role_arn} as {session.name}"
        return Credentials(own["AccessKeyId"], own["SecretAccessKey"], own["SessionToken"], expires_at, source)

    def _client(self, base: Credentials) -> Any:
        """Return a client for STS whose requests are signed with `base`."""
        import botocore  # noqa: PLC0415
        from botocore.config import Config  # noqa: PLC0415

        if self._sts is None or self._sts[0] != base:
            # botocore resolves the endpoint, retries and reads replies; the gateway signs
            client = self._session().create_client("sts", config=Config(signature_version=botocore.UNSIGNED))
            client.meta.events.register("before-sign.sts", partial(self._sign, base))
            self._sts = base, client
        return self._sts[1]

    def _session(self) -> Any:
        from botocore.config import Config  # noqa: PLC0415
        from botocore.session import Session  # noqa: PLC0415

        session = Session(profile=self._profile or None)
        session.set_config_variable("region", self._region)
        retries = {"mode": "standard", "total_max_attempts": TRIES}
        config = Config(connect_timeout=CONNECT_SECONDS, read_timeout=READ_SECONDS, retries=retries)
        session.set_default_client_config(config)
        return session

    def _sign(self, base: Credentials, request: Any, region_name: str, **_: object) -> None:
        """Sign a request of botocore. This is a handler of botocore's event `before-sign`."""
        url = urlsplit(request.url)
        region = request.context.get("signing", {}).get("region") or region_name
        host = url.netloc.rpartition("@")[2]
        content_type = {"content-type": request.headers["Content-Type"]}
        payload = sha256(request.body or b"").hexdigest()
        signable = Signable(request.method, host, url.path or "/", url.query, content_type, payload)
        for name, value in Signer(base, region, "sts").headers(signable, self._clock.now()).items():
            del request.headers[name]
            request.headers[name] = value


_REFUSALS: Final = (400, 401, 403)
"""Statuses with which STS refuses a signature. A wrong time in the signature may be the reason."""


def _errors() -> tuple[type[Exception], ...]:
    """Return the exceptions that botocore raises if credentials cannot be obtained."""
    from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError  # noqa: PLC0415

    return BotoCoreError, ClientError, HTTPClientError, OSError, ValueError, KeyError


def _date(error: Exception) -> str:
    """Return the header `Date` if the error is a refusal by STS, or "" otherwise."""
    metadata = getattr(error, "response", {}).get("ResponseMetadata", {})
    return str(metadata.get("HTTPHeaders", {}).get("date", "")) if metadata.get("HTTPStatusCode") in _REFUSALS else ""


def _failure(what: str, error: Exception) -> CredentialFailed:
    code = getattr(error, "response", {}).get("Error", {}).get("Code", "")
    name = code or type(error).__name__
    return CredentialFailed(f"{what}: {name}: {error}", _REMEDIES.get(name, _OTHER))
