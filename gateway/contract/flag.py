"""The plugin contract: protocols of compatibility flags, translators and observers, and the types that they use.

- A compatibility flag is the plugin of one API format. It serves the clients of this API, and makes the requests to
  providers with this API. The name of its module is a key in the `compatibility` object of a provider.
- A dialect is a format of bodies, such as `openai_chat`. Several flags may use the same dialect.
- A translator is a module named `<client dialect>__<provider dialect>`. An observer is a module with a function `seen`.
- Plugins do not use the network and do not await. They get their configuration as `Target.options`.
- `FlagFacts` has the functions and values of a flag that do not depend on a call. `Flag` has the hooks of calls, in the
  order of their use.
- A flag must define `api`, `dialects`, `routes`, `build` and `meter`. Everything else has a default (`defaults.py`).

Plugins import all these types from this module. `registry.py` checks plugins against the protocols.
"""

from __future__ import annotations

from collections.abc import Iterable
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
from gateway.contract.model_lists import (
    DiscoveredModel,
    ListedModel,
    ModelList,
    ModelPages,
    ModelSearch,
    OfferedModel,
)
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
"""The version of this contract (semantic versioning 2.0.0), without a patch number.

- A new name or field raises the minor version. A change that breaks a plugin raises the major version.
- Before a name is removed, it is deprecated: it still works, and its docstring and CHANGELOG.md say so."""

OPAQUE: Final = "opaque"
"""The dialect of bodies that are forwarded and never translated. The gateway only records the reported tokens."""

BY_REGION: Final = "by region"
"""The value of `price_list` for an API whose prices differ by region. The configuration must then name a price list."""

COUNT_TOKENS: Final = "count_tokens"
"""The operation that counts the tokens of a prompt.

No translator is needed: `Decoder.whole` reduces the provider's reply to `{"input_tokens": N}`, and `Encoder.whole`
turns this JSON into the reply to the client.
"""

START_JOB: Final = "start_job"
"""The operation that starts a job, such as a batch, whose work begins after the reply.

The reply tells neither tokens nor a price, so the cost is unknown. Only one provider is called, because a second call
would start a second job."""

READ_JOB: Final = "read_job"
"""The operation that reads the state of one job.

The request does not name the job's model, but the reply does. The meter must report this model (`Facts.model`), because
the caller gets the reply only if the caller's grants include the model.
"""

STOP_JOB: Final = "stop_job"
"""The operation that stops one job. The gateway reads the job first (`READ_JOB`) to learn the job's model."""

LIST_JOBS: Final = "list_jobs"
"""The operation that lists the jobs of all callers. Only admins may use it."""


class Flag(FlagFacts, Protocol):
    """A compatibility flag, that is, the plugin of an API format. Its module defines these functions and values.

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
        """Return the session ids in the body. The gateway itself reads the session ids in headers.

        >>> def session_ids(request):
        ...     return SessionIds(request.top.small("chat_id"))
        >>> session_ids(request.with_body("acme_text", {"chat_id": "chat-7"}))
        SessionIds(session='chat-7', cache_key='')
        """

    def opening(self, request: ClientRequest) -> Opening | None:
        """Return the system prompt and the first user message, or None if the request is no chat.

        If the client sends no session id, the gateway finds the session by these two texts. Raises `Refused` if they
        cannot be read.

        >>> def opening(request):
        ...     return openings.text_of(request.top, "system"), openings.text_of(request.top, "prompt")
        >>> opening(request)
        ('', 'hi')
        """

    @property
    def billed_parts(self) -> BilledParts:
        """A function that yields the parts of a decoded body that are not billed as text, such as images.

        Quotas use these parts to reserve the possible cost of a call (`billing.py`). A large body is read in a worker
        process. The default function finds files as most APIs write them (`billing.common_parts`).

        >>> def billed_parts(body):
        ...     for picture in body.get("pictures", ()):
        ...         yield File("image", length(picture))
        >>> list(billed_parts({"prompt": "describe it", "pictures": ["iVBORw0K"]}))
        [File(kind='image', size=8)]
        """

    def limit(self, request: ClientRequest) -> int | None:
        """Return the largest number of output tokens that the request allows, or None if it sets no limit.

        The gateway uses this number to estimate the cost.

        >>> def limit(request):
        ...     return json_api.limit_of(request, "max_tokens")
        >>> limit(request)
        9
        """

    def dialect_for(self, caps: Caps) -> str:
        """Return the dialect (format of bodies) of requests to a model with these capabilities.

        The result is one of `dialects`. If the dialect depends on the model, and the model is unknown, the result is
        `opaque`. The gateway then passes bodies through unchanged. The gateway keeps the result until the configuration
        is reloaded.

        >>> dialects = ("acme_text", "acme_chat")
        >>> def dialect_for(caps):
        ...     return "acme_chat" if caps.tools else "acme_text"
        >>> dialect_for(target.caps)
        'acme_chat'
        """

    def steps(self, request: ClientRequest, target: Target, drop: Drop) -> Steps | ClientRequest:
        """Return a generator of the requests, downloads and computations that must be done before `build`.

        - Each `yield` returns the reply to the request or download, or the result of the computation.
        - At its end, the generator returns the client's request, changed or not. It may instead return a reply, such as
          an estimate. Then the provider is not called.
        - The generator runs on the event loop, so it must not loop over a body. It yields such work as a computation.
        - If nothing has to be done, return the request itself instead of a generator. This takes less time.
        - The steps of the client's API format run first. The steps of the provider's API format run after the
          translation. If both formats are the same, the steps run once.

        >>> def steps(request, target, drop):
        ...     image = yield Fetch(request.top.decode("image_url"), max_bytes=1_000_000, param="image_url")
        ...     return request.with_body("acme_text", {"model": request.model, "image": image.body.hex()})
        >>> next(steps(request, target, drop)).param
        'image_url'
        """

    def mark_cache(self, request: ClientRequest, target: Target, lifetime: str) -> ClientRequest | None:
        """Return the request with cache marks, which make the provider cache the prompt, or None to change nothing.

        Return None if the client itself has set cache marks. `lifetime` is `5m` or `1h`. The gateway calls this for
        providers with `auto_cache`, from the second call of a session, if the model has `Caps.cache_points`.

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

        If the provider does not accept a field, leave it out and report it with `drop`. If this would change the
        meaning of the request, raise `Refused`.

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
        """Return a changed request in place of one that the provider refused, or None to send no other request.

        - `problem` is the provider's error.
        - `request.without` has the names of features that `build` leaves out. The changed request may add names to it.
        - If the provider refuses the changed request too, the gateway calls `retry` again. From the second changed
          request on, each one must add at least one name to `without`.
        - The gateway sends at most five changed requests in one attempt.
        - If the provider accepts a changed request, later calls of the same model leave out the same features.

        >>> def retry(request, target, problem, drop):
        ...     if "max_tokens" not in problem.message:
        ...         return None
        ...     drop("/max_tokens")
        ...     return request.with_body("acme_text", {"model": request.model, "prompt": request.top.decode("prompt")})
        >>> retry(request, target, Problem(INVALID_REQUEST, "max_tokens is not supported"), drop).top.body
        b'{"model":"small","prompt":"hi"}'
        """

    def advice(self, problem: Problem, target: Target, offers: Iterable[OfferedModel]) -> str:
        """Return advice to append to the provider's error message, or "" to append nothing.

        The advice is for the user or an administrator. The gateway calls this function if the provider's status is 400
        to 499 and the request is not sent again. `offers` are the models that the caller may use, without those to
        which the call was sent. For example, the advice can name a provider of `offers` that has the model.

        >>> def advice(problem, target, offers):
        ...     if problem.native != "no_such_model":
        ...         return ""
        ...     places = [offer.provider for offer in offers if offer.base == target.model]
        ...     return f"{target.model} is at {' and '.join(places)}" if places else ""
        >>> advice(Problem(INVALID_REQUEST, "no model", native="no_such_model", status=404), target, [offered])
        'acme-1 is at acme-eu'
        """

    def stream_type(self, request: ClientRequest) -> str:
        """Return the content type of a stream. It is the same from the provider and to the client.

        A plugin defines this function only if the content type depends on the request. Any other plugin defines the
        value `content_type`. If the type is `application/json`, the stream is a JSON array. Then an error reply is an
        array too, with one item.

        >>> def stream_type(request):
        ...     return "application/json" if "array" in request.query else "text/event-stream"
        >>> stream_type(request)
        'text/event-stream'
        """

    def problem(self, head: Head, body: bytes) -> Problem | None:
        """Return the problem that a provider's reply reports, or None if the reply reports none.

        Even a reply with status 200 can report a problem.

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
        """A function that finds the texts in events and bodies. It is None if filters cannot read texts of this API.

        >>> def places(event):
        ...     if event.kind == "request":
        ...         yield Place(("prompt",), role="user")
        ...     else:
        ...         yield Place(("text",))
        >>> list(places(event("chunk", {"text": "hi"})))
        [Place(path=('text',), kind='text', block='', repeats=False, role='')]
        """

    def output_bytes(self, event: Event) -> int:
        """Return the number of bytes that the model wrote in this event: text, thinking and tool arguments.

        If a stream ends before the provider reports tokens, the gateway estimates the cost from these numbers. Raises
        `BadFrame` for an event that is not JSON.

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
        """Return headers to add to a reply, because the clients of this API expect them.

        A header that the reply already has is kept. `usage` has the reported tokens. It is None for a stream, for an
        error, and for a reply that is forwarded unchanged.

        >>> def reply_headers(request_id, usage):
        ...     return {"acme-request-id": request_id}
        >>> reply_headers("req-1", None)
        {'acme-request-id': 'req-1'}
        """


__all__ = [
    "API", "API_VERSION", "BY_REGION", "COUNT_TOKENS", "LIST_JOBS", "OPAQUE", "READ_JOB", "START_JOB", "STOP_JOB",
    "USAGE_KINDS", "Caps", "ClientApi", "ClientRequest", "Copy", "Decoder", "DiscoveredModel", "Drop", "Encoder",
    "End", "Event", "Facts", "Fetch", "Flag", "Frame", "FrameDecoder", "Head", "Headers", "HttpRequest",
    "ListedModel", "Members", "Meter", "ModelList", "ModelPages", "ModelSearch", "Observer", "OfferedModel",
    "Opening", "Part", "Place", "Places", "Problem", "Route", "Sample", "SessionIds", "Settings", "StepResponse",
    "Steps", "Target", "Translation", "Translator", "UpstreamRequest", "Usage", "Work", "event",
]  # fmt: skip
