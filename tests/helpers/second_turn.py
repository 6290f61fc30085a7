"""The second turn of a conversation, in which a client sends the reply back as its SDK does.

Clients of Chat and Converse send back the message. Clients of Responses send back the items. Clients of Messages and
Gemini send back the content. SDKs keep fields that they do not know.
"""

from __future__ import annotations

import orjson

from tests.helpers.fold import fold
from tests.helpers.translation import Translator, client_events

CLIENTS = ("anthropic_messages", "bedrock_converse", "gemini_generate_content", "openai_chat", "openai_responses")
_SCHEMA = {"type": "object", "properties": {}}
BASES = {
    "anthropic_messages": {"model": "m", "max_tokens": 9000, "tools": [{"name": "f", "input_schema": _SCHEMA}]},
    "bedrock_converse": {"toolConfig": {"tools": [{"toolSpec": {"name": "f", "inputSchema": {"json": _SCHEMA}}}]}},
    "gemini_generate_content": {"tools": [{"functionDeclarations": [{"name": "f", "parametersJsonSchema": _SCHEMA}]}]},
    "openai_chat": {"model": "m", "tools": [{"type": "function", "function": {"name": "f", "parameters": _SCHEMA}}]},
    "openai_responses": {"model": "m", "tools": [{"type": "function", "name": "f", "parameters": _SCHEMA}]},
}


_HISTORY = {"openai_responses": "input", "gemini_generate_content": "contents"}
"""The request field that has the history, by dialect. In all other dialects it is `messages`."""


def asked(client):
    """Return a client's history with one message of the user."""
    if client == "gemini_generate_content":
        return [{"role": "user", "parts": [{"text": "x"}]}]
    content = [{"text": "x"}] if client == "bedrock_converse" else "x"
    return [{"role": "user", "content": content}]


def sent_back(client, reply):
    """Return the messages that a client adds to its history: the reply, and a result for each tool call."""
    match client:
        case "anthropic_messages":
            calls = [block["id"] for block in reply["content"] if block["type"] == "tool_use"]
            results = [{"type": "tool_result", "tool_use_id": call, "content": "r"} for call in calls]
            return [{"role": "assistant", "content": reply["content"]}, {"role": "user", "content": results or "go on"}]
        case "bedrock_converse":
            message = reply["output"]["message"]
            calls = [block["toolUse"]["toolUseId"] for block in message["content"] if "toolUse" in block]
            results = [{"toolResult": {"toolUseId": call, "content": [{"text": "r"}]}} for call in calls]
            return [message, {"role": "user", "content": results or [{"text": "go on"}]}]
        case "gemini_generate_content":
            content = reply["candidates"][0]["content"]
            calls = [part["functionCall"] for part in content["parts"] if "functionCall" in part]
            results = [
                {"functionResponse": {"id": call["id"], "name": call["name"], "response": {"output": "r"}}}
                for call in calls
            ]
            return [content, {"role": "user", "parts": results or [{"text": "go on"}]}]
        case "openai_chat":
            message = reply["choices"][0]["message"]
            calls = [call["id"] for call in message.get("tool_calls") or ()]
            results = [{"role": "tool", "tool_call_id": call, "content": "r"} for call in calls]
            return [message, *(results or [{"role": "user", "content": "go on"}])]
        case _:
            calls = [item["call_id"] for item in reply["output"] if item["type"] == "function_call"]
            results = [{"type": "function_call_output", "call_id": call, "output": "r"} for call in calls]
            return [*reply["output"], *(results or [{"role": "user", "content": "go on"}])]


def body(client, history):
    return {_HISTORY.get(client, "messages"): history}


def second_turn(client, upstream, model, whole, events=None, *, then=None, between=(), judged=True):
    """Translate the first two requests of a conversation. Return the second upstream request, and the fields that the
    translator reported as dropped from either request.

    - `whole` is the provider's first reply. If `events` is given, the reply is streamed as these events instead.
    - `then` is the upstream dialect and the model of the second request, if they are different.
    - The functions in `between` change the client's history before the second request.
    """
    first = Translator(client, upstream, BASES[client], model)
    opened = first.open(body(client, asked(client)), stream=events is not None, judged=False)
    if events is None:
        reply = orjson.loads(opened.translation.whole(orjson.dumps(whole)))
    else:
        reply = fold(client, client_events(opened.translation, events))
    history = [*asked(client), *sent_back(client, reply)]
    for change in between:
        history = change(history)
    upstream, model = then or (upstream, model)
    second = Translator(client, upstream, BASES[client], model).open(body(client, history), judged=judged)
    return second.body, [*opened.dropped, *second.dropped]


def last_turn(client, upstream, model, replies):
    """Translate the requests of a conversation in which the provider gives these replies. Return the last upstream
    request, and the fields that the translator reported as dropped from any of the requests.

    Each reply is an unstreamed body or a list of events.
    """
    made, history, dropped = Translator(client, upstream, BASES[client], model), asked(client), []
    for reply in replies:
        streams = isinstance(reply, list)
        opened = made.open(body(client, history), drops=dropped, stream=streams, judged=False).translation
        if streams:
            answer = fold(client, client_events(opened, reply))
        else:
            answer = orjson.loads(opened.whole(orjson.dumps(reply)))
        history += sent_back(client, answer)
    return made.open(body(client, history), drops=dropped, judged=False).body, dropped


def chat_reply(message, finish="tool_calls"):
    """Return an unstreamed Chat reply with this message."""
    return {"id": "c1", "choices": [{"index": 0, "message": message, "finish_reason": finish}]}


def chat_events(*deltas, finish="tool_calls"):
    """Return the events of a Chat stream with these deltas."""
    choices = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    ending = {"index": 0, "delta": {}, "finish_reason": finish}
    return [("chat.completion.chunk", {"id": "c1", "choices": [choice]}) for choice in (*choices, ending)]
