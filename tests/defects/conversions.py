"""Helpers that run the translators between dialects (API formats). All client dialects have the same methods.

- `Conversion.sent` translates a request, and checks the result by the simulated provider's rules.
- `Conversion.reply_body` and `read_reply` translate a provider's reply, streamed or not.
"""

from __future__ import annotations

import json

import pytest

from gateway.contract.capabilities import capabilities
from gateway.contract.errors import Refused
from gateway.testkit.render.dialects import rendered
from tests.helpers.clients import CLIENTS
from tests.helpers.fold import fold
from tests.helpers.translation import Translator, client_events
from tests.helpers.upstream_view import tools_of, turns_of

HAIKU = "us.anthropic.claude-haiku-4-5-20251001-v1:0"
OPUS = "us.anthropic.claude-opus-5"
LLAMA = "us.meta.llama4-maverick-17b-instruct-v1:0"
MISTRAL = "mistral.mistral-large-2402-v1:0"
WRITER = "us.writer.palmyra-x5-v1:0"
GPT_OSS = "openai.gpt-oss-120b-1:0"
MODELS = {"anthropic_messages": "claude-haiku-4-5", "bedrock_converse": HAIKU, "openai_chat": "gpt-4o"}
"""The model of a request if the test names none, by upstream dialect."""


class Sent:
    """A translated request: its body, the fields that were dropped, and the `translation`, which also translates the
    reply.
    """

    def __init__(self, conversion, translated):
        self.translation, self.dropped = translated
        self.body = translated.body
        self.turns = list(turns_of(conversion.upstream, self.body))

    def parts(self, kind):
        return [part for _, parts in self.turns for part in parts if part[0] == kind]

    @property
    def tools(self):
        """The offered tools by name."""
        return tools_of(self.body)


class Conversion:
    def __init__(self, client, upstream):
        self.say = CLIENTS[client]
        self.client = client
        self.upstream = upstream
        self.translator = Translator(client, upstream, {}, MODELS[upstream])

    def opened(self, body, model=None, *, stream=False, headers=None, **caps):
        """Return the translated request, which the simulated provider must accept.

        `caps` overrides the model's capabilities.
        """
        model = model or MODELS[self.upstream]
        able = capabilities(model, caps)
        return Sent(self, self.translator.open(body, model, caps=able, stream=stream, headers=headers))

    def sent(self, conversation, model=None, *, headers=None, caps=None, **options):
        return self.opened(self.say.body(conversation, **options), model, headers=headers, **(caps or {}))

    def refusal(self, conversation, model=None, *, caps=None, **options):
        with pytest.raises(Refused) as refused:
            self.sent(conversation, model, caps=caps, **options)
        return refused.value.problem

    def reply_body(self, reply, *, stream, **options):
        """Translate a provider's reply. Return the client's body, assembled from the client's events for a stream.

        `reply` is a `Canned`, or a pair (events, unstreamed body) in the provider's dialect.
        """
        body = self.say.body(self.say.user(self.say.text("Hi")), **options)
        if stream and self.client == "openai_chat":
            body["stream_options"] = {"include_usage": True}
        translation = self.opened(body, stream=stream).translation
        events, whole = reply if isinstance(reply, tuple) else rendered(self.upstream, reply)
        if not stream:
            return json.loads(translation.whole(json.dumps(whole).encode()))
        return fold(self.client, self.events(translation, events))

    def events(self, translation, events):
        """Return the client's events as (event type, data). Events whose data is not JSON are left out."""
        made = client_events(translation, events)
        return [(each.kind, each.data) for each in made if each.payload[:1] == b"{"]

    def read_reply(self, reply, *, stream, **options):
        return self.say.read_reply(self.reply_body(reply, stream=stream, **options))


PAIRS = [
    ("openai_chat", "anthropic_messages"),
    ("openai_chat", "bedrock_converse"),
    ("openai_responses", "anthropic_messages"),
    ("openai_responses", "bedrock_converse"),
    ("openai_responses", "openai_chat"),
    ("anthropic_messages", "bedrock_converse"),
    ("anthropic_messages", "openai_chat"),
    ("bedrock_converse", "anthropic_messages"),
    ("bedrock_converse", "openai_chat"),
    ("gemini_generate_content", "anthropic_messages"),
    ("gemini_generate_content", "bedrock_converse"),
    ("gemini_generate_content", "openai_chat"),
]


def conversions(*, clients=None, upstreams=None):
    """Return a mark that runs a test once for each conversion between the dialects `clients` and `upstreams`.

    None stands for all dialects. The test gets the argument `conversion`.
    """
    chosen = [
        Conversion(client, upstream)
        for client, upstream in PAIRS
        if (clients is None or client in clients) and (upstreams is None or upstream in upstreams)
    ]
    return pytest.mark.parametrize(
        "conversion", chosen, ids=[f"{conversion.client}-{conversion.upstream}" for conversion in chosen]
    )


CLAUDES = ("anthropic_messages", "bedrock_converse")
OPENAIS = ("openai_chat", "openai_responses")
both_ways = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
