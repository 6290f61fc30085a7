"""The credentials of providers as the gateway uses them: keys, and the sources of credentials that change at run time.

They are values of the configuration (`model.py`). `upstream/credentials/` obtains the credentials.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.config.document.secrets import Secret


@dataclass(frozen=True, slots=True)
class AssumeRole:
    """The AWS role that the gateway assumes to call a provider. Values with `<user>` or `<node>` depend on the
    caller.
    """

    role_arn: str
    session_name: str = "irisgate"
    external_id: str = ""
    source_identity: str = ""
    session_tags: tuple[tuple[str, str], ...] = ()
    duration_seconds: int = 3600
    """Seconds for which a session is valid. If one role assumes another role, AWS allows one hour at most (STS,
    AssumeRole)."""


@dataclass(frozen=True, slots=True)
class AwsSettings:
    """The AWS credentials of a provider: where they come from, and what they are used for."""

    region: str
    service: str = "bedrock"
    """The name of the service in signatures."""
    profile: str = ""
    """The profile in the AWS configuration files. It is "" for the default chain."""
    assume_role: AssumeRole | None = None
    signs: bool = True
    """True if the gateway signs each request with the credentials. False if the gateway makes short-term API keys from
    the credentials.
    """


@dataclass(frozen=True, slots=True)
class KeyHelper:
    """A program that prints the provider's key."""

    command: tuple[str, ...] = field(repr=False)
    """The absolute path of the program, and its arguments, which may be secret."""


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """A Google service account. The gateway uses the account's private key to get access tokens, and sends a token as
    the API key.
    """

    email: str
    key: Secret
    """The private key in PEM format."""
    key_id: str
    """The id of the private key, by which Google's pages name it. It is "" if the key file has none. It is no secret.
    """
    token_uri: str
    """The URL of the endpoint that issues access tokens."""
    scopes: tuple[str, ...]
    """The scopes of the access tokens."""
    authorities: str = field(default="", repr=False)
    """The CA certificates (PEM) that are accepted for the token endpoint. The value is "" for the system's
    certificates.
    """


CredentialSource = KeyHelper | ServiceAccount
"""The source of a key that is obtained at run time and sent unchanged."""


@dataclass(frozen=True, slots=True)
class PooledKey:
    """One of several keys of a provider. Its name is no secret."""

    name: str
    secret: Secret
    """The key. It is empty for a key with a `source`."""
    source: CredentialSource | None = None
    """The source of a key that is obtained at run time. It is None for a fixed key."""
