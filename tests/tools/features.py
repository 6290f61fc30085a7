"""Finds out what each conversion does with each feature of a client's dialect, for the table of
`deploy/compatibility.md`.

Each feature is tried with two requests, one without the feature and one with it. The model always supports the feature.

- If the conversion reports a loss for the second request, the feature is dropped.
- If the two upstream requests differ, the feature is carried: it reaches the provider.
- If both are the case, the feature is partly carried.
"""

from collections import defaultdict

from gateway.contract.capabilities import capabilities
from gateway.contract.conversions import conversions
from gateway.contract.errors import Refused
from gateway_plugins.dialects.gemini_generate_content.signatures import packed as thought_signature
from gateway_plugins.dialects.openai_responses.reasoning import packed
from tests.helpers.conversion import BASES, CONVERSIONS, PNG, REGISTRY
from tests.laws.drawn_requests import PDF, SCHEMA
from tests.laws.member_values import TOOL

LABELS = {
    "openai_chat": "Chat",
    "openai_responses": "Responses",
    "anthropic_messages": "Messages",
    "bedrock_model_invoke": "InvokeModel",
    "bedrock_converse": "Converse",
    "gemini_generate_content": "Gemini",
}
ABLE = {
    "openai_chat": {"reasoning": "reasoning_effort"},
    "anthropic_messages": {"mid_system": True},
    "bedrock_converse": {"mid_system": True},
}
"""Capabilities that are added to the models of `helpers/conversion.py`, by upstream dialect, so that the models support
every feature.
"""
NONE, CARRIED, PART, DROPPED, REFUSED = "–", "carried", "in part", "dropped", "refused"

CHAT, RESPONSES, MESSAGES, CONVERSE, GEMINI = BASES
SIGNED, HIDDEN = "irisgate1:claude:sig-sim-1", "irisgate1:claude:ZW5j"
DATA_URL = f"data:image/png;base64,{PNG}"
EPHEMERAL, HOUR = {"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}
CLOSED = SCHEMA | {"additionalProperties": False}
LOOK = {"name": "look", "parameters": CLOSED}
SPEC = {"name": "look", "inputSchema": {"json": CLOSED}}
ASKED, ANSWER = {"type": "text", "text": "Hi"}, {"type": "text", "text": "Hello"}


def _talk(*turns):
    """Return messages in which user and assistant alternate, beginning with the user."""
    return {"messages": [{"role": ("user", "assistant")[at % 2], "content": turn} for at, turn in enumerate(turns)]}


def _tools(dialect, more=None, **others):
    tool = {**TOOL[dialect], **(more or {})}
    return {"toolConfig": {"tools": [tool], **others}} if dialect == CONVERSE else {"tools": [tool], **others}


def _chat(*parts):
    return {"messages": [{"role": "user", "content": [ASKED, *parts]}]}


def _input(*parts):
    return {"input": [{"role": "user", "content": [{"type": "input_text", "text": "Hi"}, *parts]}]}


def _said(*blocks):
    return _talk([{"text": "Hi"}, *blocks])


def _chat_calls():
    calls = [{"id": f"c{n}", "type": "function", "function": {"name": "look", "arguments": "{}"}} for n in (1, 2)]
    results = [{"role": "tool", "tool_call_id": f"c{n}", "content": "Here."} for n in (1, 2)]
    return _tools(CHAT) | {"messages": [*BASES[CHAT]["messages"], {"role": "assistant", "tool_calls": calls}, *results]}


def _input_calls():
    calls = [{"type": "function_call", "call_id": f"c{n}", "name": "look", "arguments": "{}"} for n in (1, 2)]
    results = [{"type": "function_call_output", "call_id": f"c{n}", "output": "Here."} for n in (1, 2)]
    return _tools(RESPONSES) | {"input": [{"role": "user", "content": "Hi"}, *calls, *results]}


def _messages_calls(**more):
    calls = [{"type": "tool_use", "id": f"c{n}", "name": "look", "input": {}} for n in (1, 2)]
    results = [{"type": "tool_result", "tool_use_id": f"c{n}", "content": "Here.", **more} for n in (1, 2)]
    return _tools(MESSAGES) | _talk("Hi", calls, results)


def _converse_calls(**more):
    calls = [{"toolUse": {"toolUseId": f"c{n}", "name": "look", "input": {}}} for n in (1, 2)]
    results = [{"toolResult": {"toolUseId": f"c{n}", "content": [{"text": "Here."}], **more}} for n in (1, 2)]
    return _tools(CONVERSE) | _talk([{"text": "Hi"}], calls, results)


def _thought(*blocks):
    """Return a Chat history with signed thinking, as a client has it after a reply through the gateway."""
    talk = _talk("Hi", "Hello", "And?")
    if blocks:
        talk["messages"][1]["thinking_blocks"] = list(blocks)
    return talk


def _reasoned(*blocks):
    item = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": packed(blocks)} if blocks else None
    turns = [{"role": "user", "content": "Hi"}, item, {"role": "assistant", "content": "Hello"}]
    return {"input": [*filter(None, turns), {"role": "user", "content": "And?"}]}


def _spoken(*blocks):
    return _talk([ASKED], [*blocks, ANSWER], [ASKED])


def _uttered(*blocks):
    return _talk([{"text": "Hi"}], [*blocks, {"text": "Hello"}], [{"text": "And?"}])


THINKING = {"type": "thinking", "thinking": "So.", "signature": SIGNED}
REDACTED = {"type": "redacted_thinking", "data": HIDDEN}
PAPER = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PDF}}
PAGES = {"document": {"format": "pdf", "name": "paper", "source": {"bytes": PDF}}}
MARKED = {"type": "text", "text": "Long."}
HEARD = {"role": "user", "content": [{"type": "text", "text": "Long."}]}


def _image(source):
    return {"type": "image", "source": source}


def _file(data):
    return {"type": "file", "file": {"filename": "paper.pdf", "file_data": f"data:application/pdf;base64,{data}"}}


def _input_file(data):
    return {"type": "input_file", "filename": "paper.pdf", "file_data": f"data:application/pdf;base64,{data}"}


def _later(role, text="Be brief."):
    return [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": role, "content": text},
    ]


def _part(*parts):
    return {"contents": [{"parts": [{"text": "Hi"}, *parts]}]}


def _config(**members):
    return {"generationConfig": members}


def _gemini_calls(**response):
    calls = [{"functionCall": {"id": f"c{n}", "name": "look"}} for n in (1, 2)]
    results = [{"functionResponse": {"id": f"c{n}", "name": "look", "response": response}} for n in (1, 2)]
    turns = [*BASES[GEMINI]["contents"], {"role": "model", "parts": calls}, {"role": "user", "parts": results}]
    return _tools(GEMINI) | {"contents": turns}


def _thoughtful(*blocks):
    signed = {"thoughtSignature": thought_signature(blocks)} if blocks else {}
    asked = BASES[GEMINI]["contents"]
    return {"contents": [*asked, {"role": "model", "parts": [{"text": "Hello", **signed}]}, *asked]}


def _schema(dialect):
    text = {
        "type": "json_schema",
        "structure": {"jsonSchema": {"schema": '{"type":"object","additionalProperties":false}'}},
    }
    named = {"name": "place", "schema": CLOSED}
    return {
        CHAT: {"response_format": {"type": "json_schema", "json_schema": named}},
        RESPONSES: {"text": {"format": {"type": "json_schema", **named}}},
        MESSAGES: {"output_config": {"format": {"type": "json_schema", "schema": CLOSED}}},
        CONVERSE: {"outputConfig": {"textFormat": text}},
        GEMINI: _config(responseMimeType="application/json", responseJsonSchema=CLOSED),
    }[dialect]


FEATURES = {
    # feature: dialect to (with it, without it); the second may be left out
    "tools": {dialect: (_tools(dialect),) for dialect in BASES},
    "parallel calls and their results": {
        CHAT: (_chat_calls(), _tools(CHAT)),
        RESPONSES: (_input_calls(), _tools(RESPONSES)),
        MESSAGES: (_messages_calls(), _tools(MESSAGES)),
        CONVERSE: (_converse_calls(), _tools(CONVERSE)),
        GEMINI: (_gemini_calls(output="Here."), _tools(GEMINI)),
    },
    "a result that is an error": {
        MESSAGES: (_messages_calls(is_error=True), _messages_calls()),
        CONVERSE: (_converse_calls(status="error"), _converse_calls()),
        GEMINI: (_gemini_calls(error="Here."), _gemini_calls(output="Here.")),
    },
    "one call at a time": {
        CHAT: (_tools(CHAT, parallel_tool_calls=False), _tools(CHAT)),
        RESPONSES: (_tools(RESPONSES, parallel_tool_calls=False), _tools(RESPONSES)),
        MESSAGES: (
            _tools(MESSAGES, tool_choice={"type": "auto", "disable_parallel_tool_use": True}),
            _tools(MESSAGES),
        ),
        CONVERSE: (
            _tools(CONVERSE) | {"additionalModelRequestFields": {"tool_choice": {"disable_parallel_tool_use": True}}},
            _tools(CONVERSE),
        ),
    },
    "a demanded tool": {
        CHAT: (_tools(CHAT, tool_choice="required"), _tools(CHAT)),
        RESPONSES: (_tools(RESPONSES, tool_choice="required"), _tools(RESPONSES)),
        MESSAGES: (_tools(MESSAGES, tool_choice={"type": "any"}), _tools(MESSAGES)),
        CONVERSE: (_tools(CONVERSE, toolChoice={"any": {}}), _tools(CONVERSE)),
        GEMINI: (_tools(GEMINI, toolConfig={"functionCallingConfig": {"mode": "ANY"}}), _tools(GEMINI)),
    },
    "strict tools": {
        CHAT: (_tools(CHAT, {"function": {**LOOK, "strict": True}}), _tools(CHAT, {"function": LOOK})),
        RESPONSES: (
            _tools(RESPONSES, {"parameters": CLOSED, "strict": True}),
            _tools(RESPONSES, {"parameters": CLOSED}),
        ),
        MESSAGES: (
            _tools(MESSAGES, {"input_schema": CLOSED, "strict": True}),
            _tools(MESSAGES, {"input_schema": CLOSED}),
        ),
        CONVERSE: (_tools(CONVERSE, {"toolSpec": {**SPEC, "strict": True}}), _tools(CONVERSE, {"toolSpec": SPEC})),
    },
    "custom (freeform) tools": {RESPONSES: ({"tools": [{"type": "custom", "name": "patch"}]},)},
    "tools that the provider's servers run": {
        CHAT: ({"web_search_options": {}},),
        RESPONSES: ({"tools": [{"type": "code_interpreter", "container": {"type": "auto"}}]},),
        MESSAGES: ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]},),
        CONVERSE: ({"toolConfig": {"tools": [{"systemTool": {"name": "nova_grounding"}}]}},),
        GEMINI: ({"tools": [{"googleSearch": {}}]},),
    },
    "web search as Codex offers it": {
        RESPONSES: ({"tools": [TOOL[RESPONSES], {"type": "web_search"}]}, _tools(RESPONSES))
    },
    "images": {
        CHAT: (_chat({"type": "image_url", "image_url": {"url": DATA_URL}}),),
        RESPONSES: (_input({"type": "input_image", "image_url": DATA_URL}),),
        MESSAGES: (_talk([ASKED, _image({"type": "base64", "media_type": "image/png", "data": PNG})]),),
        CONVERSE: (_said({"image": {"format": "png", "source": {"bytes": PNG}}}),),
        GEMINI: (_part({"inlineData": {"mimeType": "image/png", "data": PNG}}),),
    },
    "images by URL (fetched here)": {
        CHAT: (_chat({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}),),
        RESPONSES: (_input({"type": "input_image", "image_url": "https://example.com/a.png"}),),
        MESSAGES: (_talk([ASKED, _image({"type": "url", "url": "https://example.com/a.png"})]),),
        GEMINI: (_part({"fileData": {"fileUri": "https://example.com/a.png"}}),),
    },
    "documents": {
        CHAT: (_chat(_file(PDF)),),
        RESPONSES: (_input(_input_file(PDF)),),
        MESSAGES: (_talk([ASKED, PAPER]),),
        CONVERSE: (_said(PAGES),),
        GEMINI: (_part({"inlineData": {"mimeType": "application/pdf", "data": PDF}}),),
    },
    "files by id or in S3": {
        CHAT: (_chat({"type": "file", "file": {"file_id": "file-1"}}),),
        RESPONSES: (_input({"type": "input_file", "file_id": "file-1"}),),
        MESSAGES: (_talk([ASKED, _image({"type": "file", "file_id": "file_1"})]),),
        CONVERSE: (_said({"image": {"format": "png", "source": {"s3Location": {"uri": "s3://bucket/key"}}}}),),
        GEMINI: (_part({"fileData": {"fileUri": "gs://bucket/key"}}),),
    },
    "sound": {
        CHAT: (_chat({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}),),
        CONVERSE: (_said({"audio": {"format": "wav", "source": {"bytes": "AAAA"}}}),),
        GEMINI: (_part({"inlineData": {"mimeType": "audio/wav", "data": "AAAA"}}),),
    },
    "citations": {
        MESSAGES: (_talk([{**PAPER, "citations": {"enabled": True}}, ASKED]), _talk([PAPER, ASKED])),
        CONVERSE: (
            _talk([{"document": {**PAGES["document"], "citations": {"enabled": True}}}, {"text": "Hi"}]),
            _talk([PAGES, {"text": "Hi"}]),
        ),
    },
    "thinking: an effort": {
        CHAT: ({"reasoning_effort": "high", "max_completion_tokens": 40_000}, {"max_completion_tokens": 40_000}),
        RESPONSES: ({"reasoning": {"effort": "high"}, "max_output_tokens": 40_000}, {"max_output_tokens": 40_000}),
        GEMINI: (
            _config(maxOutputTokens=40_000, thinkingConfig={"thinkingLevel": "HIGH"}),
            _config(maxOutputTokens=40_000),
        ),
    },
    "thinking: a budget": {
        MESSAGES: ({"thinking": {"type": "enabled", "budget_tokens": 1024}},),
        CONVERSE: ({"additionalModelRequestFields": {"thinking": {"type": "enabled", "budget_tokens": 1024}}},),
        GEMINI: (_config(thinkingConfig={"thinkingBudget": 1024}),),
    },
    "signed thinking, sent back": {
        CHAT: (_thought(THINKING), _thought()),
        RESPONSES: (_reasoned({"thinking": "So.", "signature": SIGNED}), _reasoned()),
        MESSAGES: (_spoken(THINKING), _spoken()),
        CONVERSE: (
            _uttered({"reasoningContent": {"reasoningText": {"text": "So.", "signature": SIGNED}}}),
            _uttered(),
        ),
        GEMINI: (_thoughtful({"thinking": "So.", "signature": SIGNED}), _thoughtful()),
    },
    "redacted thinking, sent back": {
        CHAT: (_thought(REDACTED), _thought()),
        RESPONSES: (_reasoned({"data": HIDDEN}), _reasoned()),
        MESSAGES: (_spoken(REDACTED), _spoken()),
        CONVERSE: (_uttered({"reasoningContent": {"redactedContent": "aXJpc2dhdGUxOmNsYXVkZTpaVzVq"}}), _uttered()),
        GEMINI: (_thoughtful({"data": HIDDEN}), _thoughtful()),
    },
    "cache marks": {
        CHAT: (
            {"messages": [{"role": "user", "content": [{**MARKED, "cache_control": EPHEMERAL}]}]},
            {"messages": [HEARD]},
        ),
        MESSAGES: (_talk([{**MARKED, "cache_control": EPHEMERAL}]), _talk([MARKED])),
        CONVERSE: (_said({"cachePoint": {"type": "default"}}), _said()),
    },
    "cache marks for an hour": {
        CHAT: (
            {"messages": [{"role": "user", "content": [{**MARKED, "cache_control": HOUR}]}]},
            {"messages": [HEARD]},
        ),
        MESSAGES: (_talk([{**MARKED, "cache_control": HOUR}]), _talk([MARKED])),
        CONVERSE: (_said({"cachePoint": {"type": "default", "ttl": "1h"}}), _said()),
    },
    "an answer by a JSON schema": {dialect: (_schema(dialect),) for dialect in BASES},
    "an answer that is any JSON object": {
        CHAT: ({"response_format": {"type": "json_object"}},),
        RESPONSES: ({"text": {"format": {"type": "json_object"}}},),
        GEMINI: (_config(responseMimeType="application/json"),),
    },
    "a system message between turns": {
        CHAT: ({"messages": _later("system")}, {"messages": _later("user")}),
        RESPONSES: ({"input": _later("developer")}, {"input": _later("user")}),
        MESSAGES: ({"messages": _later("system")}, {"messages": _later("user")}),
        CONVERSE: (
            {"messages": [{**each, "content": [{"text": each["content"]}]} for each in _later("system")]},
            {"messages": [{**each, "content": [{"text": each["content"]}]} for each in _later("user")]},
        ),
    },
    "stop sequences": {
        CHAT: ({"stop": ["END"]},),
        MESSAGES: ({"stop_sequences": ["END"]},),
        CONVERSE: ({"inferenceConfig": {"stopSequences": ["END"]}},),
        GEMINI: (_config(stopSequences=["END"]),),
    },
    "temperature": {
        CHAT: ({"temperature": 0.5},),
        RESPONSES: ({"temperature": 0.5},),
        MESSAGES: ({"temperature": 0.5},),
        CONVERSE: ({"inferenceConfig": {"temperature": 0.5}},),
        GEMINI: (_config(temperature=0.5),),
    },
    "top_k": {
        CHAT: ({"top_k": 5},),
        MESSAGES: ({"top_k": 5},),
        CONVERSE: ({"additionalModelRequestFields": {"top_k": 5}},),
        GEMINI: (_config(topK=5),),
    },
    "service tier flex": {
        CHAT: ({"service_tier": "flex"},),
        RESPONSES: ({"service_tier": "flex"},),
        CONVERSE: ({"serviceTier": {"type": "flex"}},),
        GEMINI: ({"serviceTier": "flex"},),
    },
    "guardrails": {
        CHAT: ({"guardrailConfig": {"guardrailIdentifier": "g", "guardrailVersion": "1"}},),
        CONVERSE: ({"guardrailConfig": {"guardrailIdentifier": "g", "guardrailVersion": "1"}},),
    },
    "seed, penalties, logit_bias": {
        CHAT: ({"seed": 1, "presence_penalty": 1, "logit_bias": {"1": 2}},),
        GEMINI: (_config(seed=1, presencePenalty=1),),
    },
    "n > 1": {CHAT: ({"n": 2},), GEMINI: (_config(candidateCount=2),)},
    "logprobs": {CHAT: ({"logprobs": True},), RESPONSES: ({"top_logprobs": 2},), GEMINI: (_config(logprobs=2),)},
    "who asks (user, metadata)": {
        CHAT: ({"user": "ann", "metadata": {"team": "red"}},),
        RESPONSES: ({"user": "ann", "metadata": {"team": "red"}},),
        CONVERSE: ({"requestMetadata": {"team": "red"}},),
        GEMINI: ({"labels": {"team": "red"}},),
    },
    "store": {CHAT: ({"store": True},), RESPONSES: ({"store": True},), GEMINI: ({"store": True},)},
    "previous_response_id, conversation": {RESPONSES: ({"previous_response_id": "resp_1"},)},
    "background": {RESPONSES: ({"background": True},)},
    "safety settings": {GEMINI: ({"safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT"}]},)},
    "cached contents": {GEMINI: ({"cachedContent": "cachedContents/1"},)},
    "context management": {
        RESPONSES: ({"context_management": [{"type": "compaction", "compact_threshold": 1000}]},),
        MESSAGES: ({"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}},),
    },
}


BY_HEADERS = {
    ("bedrock_model_invoke", "service tier flex"): {"x-amzn-bedrock-service-tier": "flex"},
    ("bedrock_model_invoke", "guardrails"): {
        "x-amzn-bedrock-guardrailidentifier": "g",
        "x-amzn-bedrock-guardrailversion": "1",
    },
    ("bedrock_model_invoke", "who asks (user, metadata)"): {"x-amzn-bedrock-request-metadata": '{"team":"red"}'},
}
"""Headers that ask for a feature, by the client's compatibility flag and the feature."""


def verdict(conversion, name):
    """Return what a conversion does with the feature `name`.

    The result is `CARRIED`, `PART` (partly carried), `DROPPED`, `REFUSED`, or `NONE` if the client's dialect lacks the
    feature.
    """
    headers = BY_HEADERS.get((conversion.client.name, name))
    if headers is None and conversion.dialect not in FEATURES[name]:
        return NONE
    with_it, *without = FEATURES[name].get(conversion.dialect, ({},))
    caps = capabilities(conversion.model, ABLE.get(conversion.upstream, {}))
    base = BASES[conversion.dialect]
    plain = conversion.call(base | (without[0] if without else {}), caps=caps)
    try:
        with_feature = conversion.call(base | with_it, caps=caps, headers=headers)
    except Refused:
        return REFUSED
    assert with_feature.fault is None, with_feature.fault
    lost = set(with_feature.dropped) - set(plain.dropped)
    carried = (with_feature.sent, with_feature.upstream_request.headers) != (plain.sent, plain.upstream_request.headers)
    assert lost or carried, "neither carried nor reported"
    return PART if lost and carried else DROPPED if lost else CARRIED


def table():
    """Return a Markdown table with a row for each feature and a column for each client.

    A cell begins with the result (`verdict`) that most providers have. The other results follow, each after the names
    of the providers that have it.
    """
    clients = list(dict.fromkeys(conversion.client.name for conversion in CONVERSIONS.values()))
    clients.sort(key=list(LABELS).index)
    lines = [f"| | {' | '.join(LABELS[name] for name in clients)} |", "|---" * (len(clients) + 1) + "|"]
    for name in FEATURES:
        cells = [
            _cell([conversion for conversion in CONVERSIONS.values() if conversion.client.name == client], name)
            for client in clients
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(conversions_of_client, name):
    by_word = defaultdict(list)
    for conversion in conversions_of_client:
        by_word[verdict(conversion, name)].append(LABELS[conversion.provider.name])
    words = sorted(by_word, key=lambda word: -len(by_word[word]))
    return "; ".join([words[0], *(f"{', '.join(by_word[word])}: {word}" for word in words[1:])])


def losses():
    """Return a dict from the name of each conversion to a pair: its rank, and a list of the features that it does not
    fully carry.

    The rank is `Loss.order`. The gateway uses the conversion with the lowest rank.
    """
    orders = {
        f"{conversion.client}__{conversion.provider}": conversion.loss.order for conversion in conversions(REGISTRY)
    }
    return {
        name: (orders[name], [feature for feature in FEATURES if verdict(conversion, feature) not in (NONE, CARRIED)])
        for name, conversion in CONVERSIONS.items()
    }
