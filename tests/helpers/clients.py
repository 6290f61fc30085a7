"""Clients of every compatibility flag (API format), with the same methods: each writes requests and reads replies in
its own dialect.

- Methods for turns (`user`, `assistant`, `called`, `answered`) return lists of messages or items. A conversation is the
  sum of such lists.
- `body` returns a request. Its options have the same names for every client.
- `read_reply` returns a reply as `ReplyContent`. `as_history` returns the reply as the client sends it back.
- No code of the gateway is used here.

Clients whose messages are turns (Messages, InvokeModel, Converse) are in `clients_of_turns.py`, and the client of
Gemini is in `client_of_gemini.py`.
"""

from __future__ import annotations

import json

from tests.helpers.client_of_gemini import Gemini
from tests.helpers.clients_of_turns import Converse, Invoke, Messages
from tests.helpers.reply_content import ReplyContent
from tests.helpers.samples import NO_INPUT, PDF, PNG, marked, object_of


class Chat:
    flag = dialect = "openai_chat"

    def path(self, model, *, stream):
        return "/v1/chat/completions"

    def text(self, value, ttl=None):
        return marked({"type": "text", "text": value}, ttl)

    def image(self, data=PNG, mime="image/png"):
        return {"type": "image_url", "image_url": {"url": f"data:{mime};base64,{data}"}}

    def document(self, data=PDF, name="", mime="application/pdf"):
        inner = {"file_data": f"data:{mime};base64,{data}"}
        return {"type": "file", "file": {**inner, "filename": name} if name else inner}

    def system(self, value, ttl=None):
        return [marked({"role": "system", "content": value}, ttl)]

    def user(self, *parts):
        return [{"role": "user", "content": list(parts)}]

    def assistant(self, value):
        return [{"role": "assistant", "content": value}]

    def called(self, *calls):
        """Return a message with tool calls, each given as (id, name, input). A string as input is sent unchanged."""
        made = []
        for tool_id, name, given in calls:
            function = {"name": name, "arguments": given if isinstance(given, str) else json.dumps(given)}
            made.append({"id": tool_id, "type": "function", "function": function})
        return [{"role": "assistant", "content": None, "tool_calls": made}]

    def answered(self, tool_id, *parts, error=False, ttl=None):
        return [marked({"role": "tool", "tool_call_id": tool_id, "content": list(parts)}, ttl)]

    def joined(self, messages):
        """Return messages of the user unchanged. Other clients join them into one, but in Chat each tool result is a
        message of its own.
        """
        return messages

    def tool(self, name="look", schema=NO_INPUT, description="Looks.", strict=None, ttl=None):
        function = {"name": name, "parameters": schema, "description": description}
        if strict is not None:
            function["strict"] = strict
        return marked({"type": "function", "function": function}, ttl)

    def body(self, conversation, tools=None, choice=None, limit=None, schema=None, **more):
        """Return a request. `choice` is `none`, `auto`, `any`, or a tool's name."""
        body = {"model": "m", "messages": conversation, **more}
        if tools is not None:
            body["tools"] = tools
        if choice is not None:
            named = {"type": "function", "function": {"name": choice}}
            body["tool_choice"] = {"any": "required", "auto": "auto", "none": "none"}.get(choice, named)
        if limit is not None:
            body["max_completion_tokens"] = limit
        if schema is not None:
            body["response_format"] = {"type": "json_schema", "json_schema": {"name": "place", "schema": schema}}
        return body

    def sampled(self, temperature, top_p):
        return {"temperature": temperature, "top_p": top_p}

    def effort(self, value):
        return {"reasoning_effort": value}

    def thinking(self, tokens):
        return {"thinking": {"type": "enabled", "budget_tokens": tokens}}

    def read_reply(self, body):
        (choice,) = body["choices"]
        message, usage = choice["message"], body["usage"]
        details = usage.get("prompt_tokens_details") or {}
        written = details.get("cache_write_tokens", 0)
        read = details.get("cached_tokens", 0)
        blocks = message.get("thinking_blocks") or []
        calls = message.get("tool_calls") or []
        return ReplyContent(
            text=message["content"] or "",
            thinking="".join(block.get("thinking", "") for block in blocks),
            signatures=[block["signature"] for block in blocks if block.get("signature")],
            redacted=[block["data"] for block in blocks if "data" in block],
            calls=[(c["id"], c["function"]["name"], object_of(c["function"]["arguments"])) for c in calls],
            stop=choice["finish_reason"],
            citations=len(message.get("annotations") or ()),
            input=usage["prompt_tokens"] - read - written,
            read=read,
            written=written,
            output=usage["completion_tokens"],
        )

    def as_history(self, body):
        return [body["choices"][0]["message"]]


class Responses(Chat):
    flag = dialect = "openai_responses"

    def path(self, model, *, stream):
        return "/v1/responses"

    def text(self, value, ttl=None):
        return {"type": "input_text", "text": value}

    def image(self, data=PNG, mime="image/png"):
        return {"type": "input_image", "image_url": f"data:{mime};base64,{data}"}

    def document(self, data=PDF, name="", mime="application/pdf"):
        inner = {"type": "input_file", "file_data": f"data:{mime};base64,{data}"}
        return {**inner, "filename": name} if name else inner

    def system(self, value, ttl=None):
        return [{"type": "message", "role": "developer", "content": [self.text(value)]}]

    def user(self, *parts):
        return [{"type": "message", "role": "user", "content": list(parts)}]

    def assistant(self, value):
        return [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": value}]}]

    def called(self, *calls):
        return [
            {
                "type": "function_call",
                "call_id": tool_id,
                "name": name,
                "arguments": given if isinstance(given, str) else json.dumps(given),
            }
            for tool_id, name, given in calls
        ]

    def answered(self, tool_id, *parts, error=False, ttl=None):
        return [{"type": "function_call_output", "call_id": tool_id, "output": list(parts)}]

    def tool(self, name="look", schema=NO_INPUT, description="Looks.", strict=None, ttl=None):
        made = {"type": "function", "name": name, "parameters": schema, "description": description}
        return made if strict is None else {**made, "strict": strict}

    def body(self, conversation, tools=None, choice=None, limit=None, schema=None, **more):
        body = {"model": "m", "input": conversation, "store": False, **more}
        if tools is not None:
            body["tools"] = tools
        if choice is not None:
            named = {"type": "function", "name": choice}
            body["tool_choice"] = {"any": "required", "auto": "auto", "none": "none"}.get(choice, named)
        if limit is not None:
            body["max_output_tokens"] = limit
        if schema is not None:
            body["text"] = {"format": {"type": "json_schema", "name": "place", "schema": schema}}
        return body

    def effort(self, value):
        return {"reasoning": {"effort": value}}

    def thinking(self, tokens):
        """Return the fields that ask for thinking. They request a low effort, because the Responses API has no token
        budget.
        """
        return {"reasoning": {"effort": "low", "summary": "auto"}, "include": ["reasoning.encrypted_content"]}

    def read_reply(self, body):
        items, usage = body["output"], body["usage"]
        details = usage["input_tokens_details"]
        read, written = details["cached_tokens"], details.get("cache_write_tokens", 0)
        reasoning = [item for item in items if item["type"] == "reasoning"]
        parts = [part for item in items if item["type"] == "message" for part in item["content"]]
        calls = [item for item in items if item["type"] == "function_call"]
        stop = (body["incomplete_details"] or {}).get("reason") or body["status"]
        return ReplyContent(
            text="".join(part.get("text") or part.get("refusal") or "" for part in parts),
            thinking="".join(part["text"] for item in reasoning for part in item["summary"]),
            signatures=[item["encrypted_content"] for item in reasoning if item.get("encrypted_content")],
            redacted=[],
            calls=[(item["call_id"], item["name"], object_of(item["arguments"])) for item in calls],
            stop=stop,
            citations=sum(len(part.get("annotations") or ()) for part in parts),
            input=usage["input_tokens"] - read - written,
            read=read,
            written=written,
            output=usage["output_tokens"],
        )

    def as_history(self, body):
        return body["output"]


CLIENTS = {speaker.flag: speaker for speaker in (Chat(), Responses(), Messages(), Invoke(), Converse(), Gemini())}
