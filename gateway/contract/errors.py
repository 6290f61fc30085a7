"""The tree of exceptions, and the `Problem` that each exception carries.

A `Problem` belongs to no dialect. The client's flag renders it: `Flag.error` before the first byte of a reply,
`Encoder.fail` after it. Nothing here knows a provider's status codes or the form of an error body.
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
"""The HTTP status of each code, for dialects that have no status of their own for it."""


@dataclass(frozen=True, slots=True)
class Problem:
    """An error in the words of no dialect."""

    code: str
    """One of this module's codes."""
    message: str
    """The message for the client, in the provider's words if there are any: clients match on such texts."""
    native: str = ""
    """The provider's own name for the error, such as `ThrottlingException`; "" for an error of the gateway."""
    status: int = 0
    """The provider's HTTP status, or the status that belongs to `native` in a stream; 0 for an error of the gateway."""
    retry_after: float | None = None
    """Seconds to wait, if the provider or a quota says."""
    retryable: bool = False
    reason: str = ""
    """A word for the record where there is no native name to pass on: `no_such_host`, `connection_refused` ..."""
    key_refused: bool = False
    """The provider does not accept the key that it was shown, whatever is asked for with it."""
    param: str = ""
    """The wrong field of the request, such as `messages[0].content`; "" if no field is wrong."""


class GatewayError(Exception):
    """Base of all errors that a client may see."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem

    def __reduce__(self) -> tuple[Callable[..., GatewayError], tuple[type[GatewayError], dict[str, Any]]]:
        """Return the error's type and attributes, because the subclasses take different arguments."""
        return _restored, (type(self), self.__dict__)


def _restored(kind: type[GatewayError], state: dict[str, Any]) -> GatewayError:
    error = kind.__new__(kind, state["problem"].message)
    error.__dict__.update(state)
    return error


class Refused(GatewayError):
    """A refusal by the gateway itself, before anything is sent to a provider."""


class UpstreamFailed(GatewayError):
    """An error of the provider, or a reply that broke off.

    `raw` is the error body or the whole exception frame, for clients of the same flag; `headers` and `status` came with
    an error body.
    """

    def __init__(
        self, problem: Problem, raw: bytes = b"", headers: Mapping[str, str] | None = None, status: int = 0
    ) -> None:
        super().__init__(problem)
        self.raw = raw
        self.headers = headers or {}
        self.status = status


class NotReached(UpstreamFailed):
    """A failed connection: no request was sent, so nothing can have been spent."""


class Truncated(UpstreamFailed):
    """A stream that ended before its terminal event, or inside a frame. It is an error, never a normal end."""

    def __init__(self, message: str = "the provider's stream ended before its final event") -> None:
        super().__init__(Problem(INTERNAL, message, retryable=True))


class BadFrame(UpstreamFailed):
    """Bytes of the provider that are no frame: a wrong checksum, an impossible length, an endless line."""

    def __init__(self, message: str) -> None:
        super().__init__(Problem(INTERNAL, message))


def invalid(message: str, param: str = "") -> Refused:
    """Return the refusal of a wrong request. `message` says what would be right, `param` names the field."""
    return Refused(Problem(INVALID_REQUEST, message, param=param))
