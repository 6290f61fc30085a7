"""Calls the hooks of a compatibility flag (plugin of an API format) with one of its samples, without a network.

A sample is a request and the provider's replies to it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from pydantic import ValidationError

from gateway.contract.capabilities import Caps
from gateway.contract.conversions import GENERATE
from gateway.contract.flag import (
    ClientRequest,
    Decoder,
    Drop,
    Event,
    Facts,
    Head,
    HttpRequest,
    Members,
    Meter,
    Route,
    StepResponse,
    Target,
    UpstreamRequest,
    Work,
)
from gateway.contract.registry import Plugin
from gateway.contract.samples import Sample
from gateway.contract.settings import Settings
from gateway.testkit.laws.law import Untried

HEAD: Final = Head(200, {"content-type": "application/json"})
CHECKED_MODEL: Final = "irisgate-checked-model"
"""The name of the model in the requests that plugins build during a check by laws (rules for plugins).

No sample contains this name.
"""
_PLACEHOLDER: Final = re.compile(r"\{(\w+)(?::((?:[^{}]|\{[^{}]*\})+))?\}")
"""Pattern for a placeholder in a route's path, such as `{model:.+}`."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A sample (a request and the replies to it) of a flag (the plugin of one API format).

    The same flag reads the client's request, and makes the request to the provider.
    """

    flag: Plugin
    sample: Sample
    caps: Caps

    @property
    def target(self) -> Target:
        dialect, options = self.flag.dialect_for(self.caps), options_of(self.flag, self.sample)
        return Target("provider", self.flag.name, CHECKED_MODEL, dialect, self.caps, options)

    def request(self, *, stream: bool = False, body: bytes | None = None) -> ClientRequest:
        """Return the sample's request as the plugin parses it. Raises `Refused` if the plugin refuses it."""
        body = self.sample.request if body is None else body
        if not self.flag.routes:
            dialect = self.flag.dialects[0]
            return ClientRequest(self.flag.name, dialect, GENERATE, "POST", "/", "", {}, Members(body), "m", stream)
        parsed = self.flag.parse(http_request(self.flag, self.sample, body))
        return parsed if parsed.stream is stream else replace(parsed, stream=stream)

    def build(self, request: ClientRequest) -> UpstreamRequest:
        """Return the request that the plugin builds for the provider. Raises `Refused` if the plugin refuses it."""
        return self.flag.build(stepped(self.flag, request, self.target, ignored), self.target, ignored)

    def decoder(self, *, stream: bool = True) -> Decoder:
        return self.flag.decoder(self.request(stream=stream), self.target, HEAD)

    def feed(self, decoder: Decoder, data: bytes) -> Iterator[Event]:
        return self.flag.hooks["decoder.feed"].each(decoder.feed, data)

    def close(self, decoder: Decoder) -> Iterator[Event]:
        return self.flag.hooks["decoder.close"].each(decoder.close)

    def decoded(self, chunks: Iterable[bytes]) -> list[Event]:
        """Return the events of a stream. Raises `UpstreamFailed` if the stream has an error or ends too early."""
        decoder = self.decoder()
        events = [event for chunk in chunks for event in self.feed(decoder, chunk)]
        return [*events, *self.close(decoder)]

    def meter(self, *, stream: bool) -> Meter:
        return self.flag.meter(self.request(stream=stream), self.target, HEAD)

    def metered(self, events: Iterable[Event]) -> Facts:
        """Return the facts of a stream, such as its token counts. Raises `UpstreamFailed` for an unreadable event."""
        meter, hook = self.meter(stream=True), self.flag.hooks["meter.feed"]
        for event in events:
            hook.run(meter.feed, event)
        return self.flag.hooks["meter.facts"].run(meter.facts)

    def metered_whole(self, body: bytes) -> Facts:
        """Return the facts of an unstreamed reply, such as its token counts. Raises `BadFrame` if it cannot be read."""
        meter = self.meter(stream=False)
        self.flag.hooks["meter.whole"].run(meter.whole, body)
        return self.flag.hooks["meter.facts"].run(meter.facts)


def options_of(flag: Plugin, sample: Sample) -> Settings:
    """Return the options with which a sample is tested: its own options, or else the plugin's default options.

    Raises `Untried` if the sample has no options and the plugin's class `Options` has a field without a default.
    """
    if sample.options is not None:
        return sample.options
    try:
        return flag.Options()
    except ValidationError:
        raise Untried("the flag's options have no defaults; add `options` to the sample") from None


def ignored(path: str) -> None:
    """Do nothing. A law (rule for plugins) passes this function as `drop` if dropped fields do not matter."""


def stepped(flag: Plugin, request: ClientRequest, target: Target, drop: Drop) -> ClientRequest:
    """Run the plugin's hook `steps` on a request, and return the changed request.

    Laws have no network. So `Untried` is raised if `steps` yields a request or a download. `Untried` is also raised if
    `steps` returns a reply.
    """
    steps = flag.steps(request, target, drop)
    if isinstance(steps, ClientRequest):
        return steps
    hook, value = flag.hooks["steps"], None
    while True:
        wanted, is_over = hook.advance(steps, value)
        if is_over:
            break
        if not isinstance(wanted, Work):
            raise Untried("the sample makes `steps` send a request; add a sample without one")
        value = wanted.function(*wanted.args)
    if isinstance(wanted, StepResponse):
        raise Untried("the sample is answered by `steps`; add a sample that is not")
    result: ClientRequest = wanted
    return result


def http_request(flag: Plugin, sample: Sample, body: bytes) -> HttpRequest:
    """Return a client's request with this body to the sample's path. Raises `Untried` if no route has this path."""
    path, _, query = sample.path.partition("?")
    routes = [route for route in flag.routes if route.operation == GENERATE] or list(flag.routes)
    if not path:
        route = routes[0]
        path = _PLACEHOLDER.sub("m", route.path)
        return HttpRequest(route, path, query, sample.headers, dict.fromkeys(_names(route), "m"), body)
    for route in routes:
        if (params := _params(route, path)) is not None:
            return HttpRequest(route, path, query, sample.headers, params, body)
    raise Untried(f'sample "{sample.name}": no route has the path {path}')


def _names(route: Route) -> list[str]:
    return [match[1] for match in _PLACEHOLDER.finditer(route.path)]


def _params(route: Route, path: str) -> Mapping[str, Any] | None:
    """Return the values of the route's placeholders in a path, or None if the route does not match."""
    pattern, end = "", 0
    for match in _PLACEHOLDER.finditer(route.path):
        pattern += re.escape(route.path[end : match.start()]) + f"(?P<{match[1]}>{match[2] or '[^{}/]+'})"
        end = match.end()
    found = re.fullmatch(pattern + re.escape(route.path[end:]), path)
    return None if found is None else found.groupdict()
