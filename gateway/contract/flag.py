"""The plugin contract: protocols of compatibility flags, translators and observers, and the types that they use.

- A compatibility flag is a plugin for one API format. Its module's name is a key in the `compatibility` object of
  providers. It implements the routes for clients of this API, and the requests to providers with this API. The format
  of the bodies is called a *dialect*.
- A translator is a module named `<client dialect>__<upstream dialect>`. An observer is a module with a function `seen`.
- Plugins are pure: they do not use the network, do not await, and get their configuration only from the target
  (`Target.options`).
- `FlagFacts` (`flag_facts.py`) has the functions and values of a flag that depend on no call. `Flag` adds the hooks, in
  the order in which a call runs them.
- The values that plugins take and return are in `messages.py` and `facts.py`. Plugins import them from here.

`registry.py` checks modules against these protocols. A flag must define `api`, `dialects`, `routes`, `build` and
`meter`. Everything else has a default in `defaults.py`.
"""

from __future__ import annotations

from typing import Final, Protocol

from gateway.contract.billing import BilledParts
from gateway.contract.capabilities import Caps
from gateway.contract.client_api import ClientApi
from gateway.contract.codecs import Decoder, Drop, Encoder, FrameDecoder, Meter
from gateway.contract.errors import Problem
from gateway.contract.facts import USAGE_KINDS, Facts, Part, Usage
from gateway.contract.flag_facts import FlagFacts
from gateway.contract.members import Members
from gateway.contract.messages import (
    ClientRequest,
    Event,
    Fetch,
    Frame,
    Head,
    Headers,
    HttpRequest,
    Route,
    StepResponse,
    Steps,
    Target,
    UpstreamRequest,
    Work,
    event,
)
from gateway.contract.model_lists import DiscoveredModel, ListedModel, ModelList, ModelPages, ModelSearch
from gateway.contract.observer import Observer
from gateway.contract.openings import Opening
from gateway.contract.places import Copy, End, Place, Places
from gateway.contract.samples import Sample
from gateway.contract.session_ids import SessionIds
from gateway.contract.settings import Settings
from gateway.contract.translator import Translation, Translator

API: Final = 1
"""The major version of this contract. Every plugin declares it as `api = 1`."""

API_VERSION: Final = "1.0"
"""The version of this contract by the rules of semantic versioning (2.0.0), without a patch number.

A new name or field makes the next minor version. A change that breaks a plugin makes the next major version. A name is
removed only in a major version, after a minor version in which its docstring and CHANGELOG.md call it deprecated. A
deprecated name works as before."""

OPAQUE: Final = "opaque"
"""The dialect of bodies that are never translated. They are only forwarded, and the reported tokens are recorded."""

BY_REGION: Final = "by region"
"""The value of `price_list` for an API whose providers have different prices in different regions."""

COUNT_TOKENS: Final = "count_tokens"
"""The operation that returns the number of tokens of a prompt.

The reply has the form `{"input_tokens": N}` in every dialect: `Decoder.whole` returns it, and `Encoder.whole` takes it.
So the reply needs no translator."""


class Flag(FlagFacts, Protocol):
    """A compatibility flag, that is, the plugin of an API format.

    The module of a plugin defines these functions and values. The gateway has defaults for the optional ones.

    >>> api = 1
    >>> dialects = ("acme_text",)
    >>> routes = (Route("POST", "/acme/v1/text", "generate"),)
    >>> def build(request, target, drop):
    ...     body = request.top.spliced({"model": orjson.dumps(target.model)})
    ...     return UpstreamRequest("POST", "/v1/text", body)
    >>> def meter(request, target, head):
    ...     return AcmeMeter()
    >>> build(request, target, drop).body
    b'{"model": "acme-1","prompt": "hi","max_tokens": 9}'
    """

    def parse(self, request: HttpRequest) -> ClientRequest:
        """Return a client's parsed request. Raises `Refused` if the request cannot be parsed.

        >>> def parse(request):
        ...     return json_api.parse("acme_text", "acme_text", request, model="model", stream="live")
        >>> parse(http_request).model
        'small'
        """

    def session_ids(self, request: ClientRequest) -> SessionIds:
        """Return the ids by which the body names its session. The gateway reads the headers of known clients itself.

        >>> def session_ids(request):
        ...     return SessionIds(request.top.small("chat_id"))
        >>> session_ids(request.with_body("acme_text", {"chat_id": "chat-7"}))
        SessionIds(session='chat-7', cache_key='')
        """

    def opening(self, request: ClientRequest) -> Opening | None:
        """Return the system prompt and the first user message; None if the request is no chat.

        If the client names no session, its session is found by this opening. Raises `Refused` if the opening cannot be
        read.

        >>> def opening(request):
        ...     return openings.text_of(request.top, "system"), openings.text_of(request.top, "prompt")
        >>> opening(request)
        ('', 'hi')
        """

    @property
    def billed_parts(self) -> BilledParts:
        """A function that yields the parts of a request that are not billed as text, such as images (`billing.py`).

        Quotas need these parts to reserve the possible cost of a call. The function gets the decoded body. For a large
        body, it runs in a worker process. By default, it reads the forms that most APIs have in common.

        >>> def billed_parts(body):
        ...     for picture in body.get("pictures", ()):
        ...         yield File("image", length(picture))
        >>> list(billed_parts({"prompt": "describe it", "pictures": ["iVBORw0K"]}))
        [File(kind='image', size=8)]
        """

    def limit(self, request: ClientRequest) -> int | None:
        """Return the maximum number of output tokens that the request allows, or None. Estimates use this number.

        >>> def limit(request):
        ...     return json_api.limit_of(request, "max_tokens")
        >>> limit(request)
        9
        """

    def dialect_for(self, caps: Caps) -> str:
        """Return the one of `dialects` in which a model with these capabilities gets its requests.

        This is `opaque` if the model's dialect is unknown.

        >>> dialects = ("acme_text", "acme_chat")
        >>> def dialect_for(caps):
        ...     return "acme_chat" if caps.tools else "acme_text"
        >>> dialect_for(target.caps)
        'acme_chat'
        """

    def steps(self, request: ClientRequest, target: Target, drop: Drop) -> Steps | ClientRequest:
        """Yield the requests, downloads and computations that must be done before `build`.

        `yield` returns the reply to a request or download, or the result of a computation. The code between two `yield`
        runs on the event loop, so it must not loop over a body. The generator returns the request to continue with. If
        it instead returns a reply in the request's dialect, such as an estimate, the provider is not called.

        If nothing must be done, the function returns the request instead of a generator, which takes less time.

        First, the steps of the client's compatibility flag run with the client's request. Then the steps of the
        provider's flag run with the request in the provider's dialect. If both have the same flag, its steps run once.

        >>> def steps(request, target, drop):
        ...     image = yield Fetch(request.top.decode("image_url"), max_bytes=1_000_000, param="image_url")
        ...     return request.with_body("acme_text", {"model": request.model, "image": image.body.hex()})
        >>> next(steps(request, target, drop)).param
        'image_url'
        """

    def mark_cache(self, request: ClientRequest, target: Target, lifetime: str) -> ClientRequest | None:
        """Return the request with marks that make the provider cache the prompt; None to leave the request unchanged.

        The gateway calls this if the flag has `has_cache_marks`, the provider is configured with `auto_cache`, the
        model can cache (`Caps.cache_points`), and the call is not the first one of its session. `lifetime` is `5m` or
        `1h`. The function must return None if the client has set marks itself.

        >>> def mark_cache(request, target, lifetime):
        ...     if "cache" in request.top:
        ...         return None
        ...     body = {"model": request.model, "prompt": request.top.decode("prompt"), "cache": lifetime}
        ...     return request.with_body("acme_text", body)
        >>> mark_cache(request, target, "5m").top.decode("cache")
        '5m'
        """

    def build(self, request: ClientRequest, target: Target, drop: Drop) -> UpstreamRequest:
        """Return the request to the provider.

        Raises `Refused` if a field cannot be sent to the provider, and leaving it out would change the meaning of the
        request.

        >>> def build(request, target, drop):
        ...     changes = {"model": orjson.dumps(target.model)}
        ...     if "user" in request.top:
        ...         drop("/user")
        ...         changes["user"] = None
        ...     return UpstreamRequest("POST", "/v1/text", request.top.spliced(changes))
        >>> build(request, target, drop).body
        b'{"model": "acme-1","prompt": "hi","max_tokens": 9}'
        """

    def retry(self, request: ClientRequest, target: Target, problem: Problem, drop: Drop) -> ClientRequest | None:
        """Return a changed request to send after the provider's refusal, or None to give up.

        The gateway calls `build` for the changed request, at most five times in a call. `request.without` has the names
        of features that `build` leaves out. Each changed request after the first must name more of them than the one
        before. If the provider accepts a changed request, later calls of the same model leave out the same features.

        >>> def retry(request, target, problem, drop):
        ...     if "max_tokens" not in problem.message:
        ...         return None
        ...     drop("/max_tokens")
        ...     return request.with_body("acme_text", {"model": request.model, "prompt": request.top.decode("prompt")})
        >>> retry(request, target, Problem(INVALID_REQUEST, "max_tokens is not supported"), drop).top.body
        b'{"model":"small","prompt":"hi"}'
        """

    def stream_type(self, request: ClientRequest) -> str:
        """Return the content type of the provider's stream, and of the stream to a client, for this request.

        If the type does not depend on the request, a compatibility flag has a `content_type` instead. A stream of type
        `application/json` is a JSON array. The client then also gets an error reply as an array, with one item.

        >>> def stream_type(request):
        ...     return "application/json" if "array" in request.query else "text/event-stream"
        >>> stream_type(request)
        'text/event-stream'
        """

    def problem(self, head: Head, body: bytes) -> Problem | None:
        """Return the problem that a provider's reply reports, or None. A reply with status 200 can report one too.

        >>> def problem(head, body):
        ...     if head.status == 418:
        ...         return Problem(OVERLOADED, "the provider is a teapot", status=418, retryable=True)
        ...     return provider_errors.problem_of(head, body)
        >>> problem(Head(418, {}), b"").code
        'overloaded'
        """

    def decoder(self, request: ClientRequest, target: Target, head: Head) -> Decoder:
        """Return a decoder of the provider's reply.

        >>> def decoder(request, target, head):
        ...     return sse_api.SseDecoder(lambda name, payload: name or "message", lambda event: event.kind == "end")
        >>> decoder(request, target, head).done
        False
        """

    def meter(self, request: ClientRequest, target: Target, head: Head) -> Meter:
        """Return a reader of the tokens and other facts of the provider's reply.

        >>> class NoMeter:
        ...     def feed(self, event): pass
        ...     def whole(self, body): pass
        ...     def facts(self): return Facts()
        >>> def meter(request, target, head):
        ...     return NoMeter()
        >>> meter(request, target, head).facts().reported
        False
        """

    def encoder(self, request: ClientRequest) -> Encoder:
        r"""Return an encoder of the reply to the client.

        >>> def encoder(request):
        ...     return sse_api.SseEncoder()
        >>> encoder(request).feed(event("chunk", {"text": "hi"}))
        b'data: {"text":"hi"}\n\n'
        """

    @property
    def places(self) -> Places | None:
        """A function that finds the texts in events and bodies; None if filters cannot read the texts of this API.

        >>> def places(event):
        ...     if event.kind == "request":
        ...         yield Place(("prompt",), role="user")
        ...     else:
        ...         yield Place(("text",))
        >>> list(places(event("chunk", {"text": "hi"})))
        [Place(path=('text',), kind='text', block='', repeats=False, role='')]
        """

    def output_bytes(self, event: Event) -> int:
        """Return the number of bytes that the model wrote in this event: text, thinking and arguments of tool calls.

        If a stream ends before the provider reports tokens, the charge is estimated from this number. Raises `BadFrame`
        for an event that is not JSON.

        >>> def output_bytes(event):
        ...     return json_api.text_bytes(json_api.event_object(event).get("text"))
        >>> output_bytes(event("chunk", {"text": "hi"}))
        2
        """

    def error(self, problem: Problem) -> tuple[int, dict[str, str], bytes]:
        """Return the status, the headers and the body of an error reply.

        >>> def error(problem):
        ...     return errors.STATUS[problem.code], {"content-type": "text/plain"}, problem.message.encode()
        >>> error(problem)
        (400, {'content-type': 'text/plain'}, b'prompt must be a string')
        """

    def reply_headers(self, request_id: str, usage: Usage | None) -> dict[str, str]:
        """Return the headers that clients expect in every reply. They replace no header that the reply already has.

        `usage` has the tokens that the provider reported. It is None for a stream, and for a reply that is forwarded
        unchanged.

        >>> def reply_headers(request_id, usage):
        ...     return {"acme-request-id": request_id}
        >>> reply_headers("req-1", None)
        {'acme-request-id': 'req-1'}
        """


__all__ = [
    "API", "API_VERSION", "BY_REGION", "COUNT_TOKENS", "OPAQUE", "USAGE_KINDS", "Caps", "ClientApi",
    "ClientRequest", "Copy", "Decoder", "DiscoveredModel", "Drop", "Encoder", "End", "Event", "Facts", "Fetch", "Flag",
    "Frame", "FrameDecoder", "Head", "Headers", "HttpRequest", "ListedModel", "Members", "Meter", "ModelList",
    "ModelPages", "ModelSearch", "Observer", "Opening", "Part", "Place", "Places", "Problem", "Route", "Sample",
    "SessionIds", "Settings", "StepResponse", "Steps", "Target", "Translation", "Translator", "UpstreamRequest",
    "Usage", "Work", "event",
]  # fmt: skip
