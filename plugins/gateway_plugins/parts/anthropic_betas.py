"""Where a Messages client names betas: in the `anthropic-beta` header, and in Bedrock's member `anthropic_beta`.

Only read here; which of them an envelope takes, and in which place, is that envelope's. Source: bedrock.md 3.1.
"""

from __future__ import annotations

from gateway.errors import invalid
from gateway.flag import Headers, Members
from gateway_plugins.parts.fields import member


def of_body(top: Members) -> list[str]:
    """Raises `Refused` for what is no list of names."""
    given = member(top, "anthropic_beta")
    if given is None:
        return []
    if not isinstance(given, list) or not all(isinstance(beta, str) for beta in given):
        raise invalid("anthropic_beta: is a list of names of betas, as strings", "anthropic_beta")
    return list(dict.fromkeys(given))


def of_header(headers: Headers) -> list[str]:
    """A comma between names, a JSON array, or the header repeated: clients send all three."""
    names = (part.strip(' "[]') for part in headers.get("anthropic-beta", "").split(","))
    return list(dict.fromkeys(name for name in names if name))
