"""One tree of exceptions, and the `Problem` that each of them carries.

A Problem says what went wrong in words that belong to no dialect; the client's flag renders it (`Flag.error` before
the first byte, `Encoder.fail` after it). Nothing here knows a status code of a provider or the shape of a body.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

INVALID_REQUEST: Final = (
    "invalid_request"  # the client's request is wrong: the message names field, value and what would do
)
PERMISSION: Final = "permission"  # no role, or the provider refuses the key
NOT_FOUND: Final = "not_found"  # unknown and not granted look alike
NO_ROUTE: Final = "no_route"  # no operation has this path or method: the message names the base URL to set
TOO_LARGE: Final = "too_large"  # the body is over the limit
TIMEOUT: Final = "timeout"  # the provider took too long
RATE_LIMIT: Final = "rate_limit"  # slow down; retry_after may say how long
QUOTA: Final = "quota"  # the money or the allowance is spent
OVERLOADED: Final = "overloaded"  # the provider is busy or warming up
UNAVAILABLE: Final = "unavailable"  # the gateway cannot serve now, or cannot reach the provider
UPSTREAM: Final = "upstream"  # the provider refuses the gateway itself, whatever the client asks for
INTERNAL: Final = "internal"  # a fault on the provider's side, or ours

STATUS: Final[Mapping[str, int]] = {
    INVALID_REQUEST: 400,
    PERMISSION: 403,
    NOT_FOUND: 404,
    NO_ROUTE: 404,
    TOO_LARGE: 413,
    TIMEOUT: 504,
    RATE_LIMIT: 429,
    QUOTA: 429,
    OVERLOADED: 503,
    UNAVAILABLE: 503,
    UPSTREAM: 502,
    INTERNAL: 500,
}
"""The HTTP status of each code where a dialect has no own opinion."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What went wrong, in no dialect."""

    code: str
    """One of the constants above."""
    message: str
    """For the client, as the provider worded it where it did: clients match on such texts."""
    native: str = ""
    """The provider's own name for it, such as `ThrottlingException`; empty when it is ours."""
    status: int = 0
    """The provider's HTTP status, or the one that belongs to `native` in a stream; 0 when it is ours."""
    retry_after: float | None = None
    """Seconds, when somebody said so."""
    retryable: bool = False
    param: str = ""
    """The field of the request that is wrong, such as `messages[0].content`; empty when none is."""


class GatewayError(Exception):
    """Base of everything that a client may be told about."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem

    def __reduce__(self) -> tuple[Callable[..., GatewayError], tuple[type[GatewayError], dict[str, Any]]]:
        """Between processes: as it is, since the kinds of errors are made of different arguments."""
        return _again, (type(self), self.__dict__)


def _again(kind: type[GatewayError], state: dict[str, Any]) -> GatewayError:
    error = kind.__new__(kind, state["problem"].message)
    error.__dict__.update(state)
    return error


class Refused(GatewayError):
    """The gateway itself says no, before anything was sent upstream."""


class UpstreamFailed(GatewayError):
    """The provider answered with an error, or broke off.

    `raw` holds the bytes that said so (an error body, or a whole exception frame) for clients of the same flag;
    `headers` and `status` are those that came with an error body.
    """

    def __init__(
        self, problem: Problem, raw: bytes = b"", headers: Mapping[str, str] | None = None, status: int = 0
    ) -> None:
        super().__init__(problem)
        self.raw = raw
        self.headers = headers or {}
        self.status = status


class NotReached(UpstreamFailed):
    """No connection to the provider came about: nothing was asked, and nothing can have been spent."""


class Truncated(UpstreamFailed):
    """A stream ended before its terminal event, or inside a frame: an error, never a quiet end."""

    def __init__(self, message: str = "the provider's stream ended before its final event") -> None:
        super().__init__(Problem(INTERNAL, message, retryable=True))


class BadFrame(UpstreamFailed):
    """The provider sent bytes that are no frame: a wrong checksum, an impossible length, a line without end."""

    def __init__(self, message: str) -> None:
        super().__init__(Problem(INTERNAL, message))


def invalid(message: str, param: str = "") -> Refused:
    """The refusal for a request that cannot be served as it is; say what would be right."""
    return Refused(Problem(INVALID_REQUEST, message, param=param))
