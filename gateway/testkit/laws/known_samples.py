"""Samples in the simulated providers' dialects, for flags (plugins of API formats) that define no samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from gateway.contract.capabilities import Caps, capabilities
from gateway.contract.conversions import GENERATE
from gateway.contract.flag import ClientRequest, Event, Members
from gateway.contract.registry import Plugin
from gateway.contract.samples import Sample
from gateway.testkit.render.dialects import is_rendered, rendered
from gateway.testkit.scenarios import NAMED, Canned, Tokens, Tool

CLAUDE: Final[Caps] = capabilities("us.anthropic.claude-haiku-4-5-20251001-v1:0")
"""The capabilities of the model in the samples that `known_samples` returns. It is a Claude model. Some plugins choose
their dialect by the model.
"""
_NAMES: Final = ("thinking", "redacted", "unicode")
REPLIES: Final[Mapping[str, Canned]] = {
    **{name: reply for name in _NAMES if (reply := NAMED[name].reply) is not None},
    "tools": Canned(("Let me see.",), tools=(Tool("a", {"x": 1}), Tool("b", None)), tokens=Tokens(5, 6, 100, 20, 3)),
}
_TURNS: Final = [{"role": "user", "content": "hello"}]
_REQUESTS: Final[Mapping[str, dict[str, Any]]] = {
    # InvokeModel, which has Messages as a dialect, needs anthropic_version
    "anthropic_messages": {"model": "m", "anthropic_version": "v", "max_tokens": 9, "messages": _TURNS},
    "bedrock_converse": {"messages": [{"role": "user", "content": [{"text": "hello"}]}]},
    "gemini_generate_content": {"contents": [{"parts": [{"text": "hello"}]}]},
    "openai_chat": {"model": "m", "messages": _TURNS, "stream_options": {"include_usage": True}},
    "openai_responses": {"model": "m", "input": "hello"},
}
_NEUTRAL: Final = ("/anthropic_version", "/stream_options")
"""JSON pointers of request fields that only one dialect has. In the known samples, a translator may leave them out
without calling `drop`.
"""


def known_samples(client: str, provider: Plugin) -> list[Sample]:
    """Return samples for a translator from the dialect `client` to a dialect of the plugin `provider`.

    The plugin chooses its dialect for a Claude model, and its encoder writes the streamed replies. Return [] if one of
    the two dialects is unknown.
    """
    upstream = provider.dialect_for(CLAUDE)
    if client not in _REQUESTS or not is_rendered(upstream):
        return []
    return [_sample(client, provider, upstream, name, reply) for name, reply in REPLIES.items()]


def _sample(client: str, provider: Plugin, upstream: str, name: str, reply: Canned) -> Sample:
    top = Members(orjson.dumps(_REQUESTS[upstream]))
    # a provider's stream may have another form for the clients of its own flag
    flag = provider.name if client == upstream else client
    request = ClientRequest(flag, upstream, GENERATE, "POST", "/", "", {}, top, "m", stream=True)
    encoder = provider.encoder(request)
    events, whole = rendered(upstream, reply)
    feed, close = provider.hooks["encoder.feed"], provider.hooks["encoder.close"]
    stream = [feed.run(encoder.feed, Event(kind, orjson.dumps(data))) for kind, data in events]
    stream.append(close.run(encoder.close))
    return Sample(orjson.dumps(_REQUESTS[client]), orjson.dumps(whole), b"".join(stream), name, neutral=_NEUTRAL)
