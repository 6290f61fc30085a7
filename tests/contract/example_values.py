"""The names that the examples in the contract's docstrings use. `plugins/reference.md` shows this code."""

# ruff: noqa: F401 (the examples use the names)

import orjson

from gateway.contract import (
    array_api,
    billing,
    capabilities,
    client_api,
    errors,
    globs,
    json_api,
    lenient_json,
    model_lists,
    openings,
    places,
    provider_errors,
    session_ids,
    sse_api,
)
from gateway.contract import filter as filters
from gateway.contract.billing import TOOL_INSTRUCTIONS, AddedTokens, Answers, Fee, File, FileForms, Search, length
from gateway.contract.errors import (
    INVALID_REQUEST,
    OVERLOADED,
    RATE_LIMIT,
    TIMEOUT,
    TOO_LARGE,
    UNAVAILABLE,
    BadFrame,
    GatewayError,
    NotReached,
    PluginFailed,
    Problem,
    Refused,
    Stalled,
    Truncated,
    UpstreamFailed,
    invalid,
)
from gateway.contract.filter import Asked, Caller, CallView, Hold, HttpReply, Reply, Settings, blocked, hold, limited
from gateway.contract.flag import (
    OPAQUE,
    Caps,
    ClientApi,
    Copy,
    DiscoveredModel,
    End,
    Event,
    Facts,
    Fetch,
    Head,
    HttpRequest,
    ListedModel,
    Members,
    ModelList,
    ModelSearch,
    OfferedModel,
    Part,
    Place,
    Route,
    Sample,
    SessionIds,
    StepResponse,
    Target,
    UpstreamRequest,
    Usage,
    Work,
    event,
)
from gateway.contract.framing import eventstream, json_array, sse
from gateway.contract.samples import FilterSample
from gateway.testkit import prompt_cache, scenarios
from gateway.testkit.simulator import Refusal

body = b'{"model": "small", "prompt": "hi", "max_tokens": 9}'
route = Route("POST", "/acme/v1/text", "generate")
http_request = HttpRequest(route, "/acme/v1/text", "", {"user-agent": "acme/1.0"}, {}, body)
request = json_api.parse("acme_text", "acme_text", http_request)
target = Target("acme", "acme_text", "acme-1", "acme_text", capabilities.capabilities("acme-1"))
head = Head(200, {"content-type": "application/json"})
problem = Problem(INVALID_REQUEST, "prompt must be a string", param="prompt")
dropped = []
drop = dropped.append
offered = OfferedModel("acme-eu", "acme-1", "acme-1", "eu.acme.example")
listed = ListedModel("small", "acme", "Acme", "", frozenset({"acme_text"}), ("/acme/v1/text",))


class Moderation:
    """A replacement for an HTTP client: `send` returns a moderation reply that flags nothing, and sends no request."""

    async def send(self, method, url, *, headers=None, json=None, body=b""):
        return HttpReply(200, {"content-type": "application/json"}, b'{"flagged": false}')


ada = Caller("ada@example.com", groups=("group:dev",))
call = CallView("req-1", ada, "s-1", "acme", "acme-1", "acme_text", "generate", request, Moderation())
asked = Asked(request, lambda whole: [Place(("prompt",), role="user")])
record = {"identity": "ada@example.com", "model": "acme-1", "status": 200, "cost_usd": 0.5}
