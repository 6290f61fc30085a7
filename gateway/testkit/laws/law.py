"""A law (a rule for plugins), its result, and the exceptions for a law that fails or cannot be tried."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from gateway.contract.errors import GatewayError, PluginFailed, Truncated
from gateway.contract.samples import Sample
from gateway.contract.sse_api import NO_EVENTS

S = TypeVar("S")

SHOWN: Final = 160
"""Maximum number of characters that a report shows of an input or a value."""
NO_LAST_EVENT: Final = (
    "no event was the last one, after which `done` of the decoder is true; the default `decoder` waits for [DONE]"
)
NOT_READ: Final = "the default `decoder` reads server-sent events; a stream of another framing needs its own `decoder`"


class Broken(Exception):
    """The error for a law (rule for plugins) that does not hold. The message says what happened."""

    def __init__(self, reason: str, *inputs: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.inputs = inputs
        """The smallest input for which the law fails, one line for each part."""


class Untried(Exception):
    """The error for a law (rule for plugins) that cannot be tried. The message says what the plugin lacks."""


class Exempt(Exception):
    """The exception for a law that does not concern the plugin, or that needs a network. The message says why.

    A law that raises this exception counts as fulfilled.
    """


@dataclass(frozen=True, slots=True)
class Law(Generic[S]):
    """A rule, and the function that tests it on a plugin.

    The function raises `Broken` or `GatewayError` if the rule does not hold, and `Untried` if samples are missing.
    """

    rule: str
    attempt: Callable[[S], None]


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a law."""

    rule: str
    holds: bool
    reason: str = ""
    """The reason why the law is broken or was not tried. It is "" if the law was tried and holds."""
    inputs: tuple[str, ...] = ()
    is_tried: bool = True


def results(laws: Iterable[Law[S]], subject: S) -> Iterator[Result]:
    """Yield the result of each law.

    If several laws fail for the same reason, only the first result has this reason. The results of the other laws name
    the first one as the cause.
    """
    first_rules: dict[str, str] = {}
    for law in laws:
        result = _result(law, subject)
        if not result.holds and (first := first_rules.setdefault(result.reason, law.rule)) != law.rule:
            result = Result(law.rule, holds=False, reason=f'not tried: the cause is that of "{first}"', is_tried=False)
        yield result


def _result(law: Law[S], subject: S) -> Result:
    try:
        law.attempt(subject)
    except Broken as broken:
        return Result(law.rule, holds=False, reason=broken.reason, inputs=broken.inputs)
    except Untried as untried:
        return Result(law.rule, holds=False, reason=f"not tried: {untried}", is_tried=False)
    except Exempt as exempt:
        return Result(law.rule, holds=True, reason=f"not tried: {exempt}", is_tried=False)
    except GatewayError as error:
        return Result(law.rule, holds=False, reason=reason_of(error))
    return Result(law.rule, holds=True)


def reason_of(error: GatewayError) -> str:
    """Return the text with which a report describes a plugin's error. For `PluginFailed`, the text names the hook, file
    and line.
    """
    if isinstance(error, PluginFailed):
        return f"{error.hook} {error.cause} ({error.place})"
    message = error.problem.message
    hint = ""
    if isinstance(error, Truncated):
        hint = f"; {NO_LAST_EVENT}"
    elif message.startswith(NO_EVENTS):
        hint = f"; {NOT_READ}"
    return f"raised {type(error).__name__}: {message}{hint}"


def samples_with(samples: Iterable[Sample], has: Callable[[Sample], bytes], what: str) -> list[Sample]:
    """Return the samples that have a certain part, such as a stream.

    `has` returns this part of a sample, or b"" if the sample lacks it. If all samples lack it, `Untried` is raised,
    with `what` as the name of the part.
    """
    chosen = [sample for sample in samples if has(sample)]
    if not chosen:
        raise Untried(f"no sample has {what}; give it in `samples` (gateway.contract.samples)")
    return chosen


def require(holds: bool, reason: str, *inputs: str) -> None:
    """Raise `Broken` if `holds` is false. The exception has the reason, and the inputs for which the rule does not
    hold.
    """
    if not holds:
        raise Broken(reason, *inputs)


def shown(value: Any) -> str:
    """Return the repr of a value, shortened in the middle."""
    text = repr(value)
    if len(text) <= SHOWN:
        return text
    half = SHOWN // 2
    return f"{text[:half]} ... {text[-half:]}"
