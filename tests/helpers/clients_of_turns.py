"""Clients of Messages, InvokeModel and Converse, whose messages are turns of user and assistant.

Other clients are in `clients.py`.
"""

from __future__ import annotations

import base64
import json

from tests.helpers.reply_content import ReplyContent
from tests.helpers.samples import NO_INPUT, PDF, PNG, marked


class Turns:
    """The methods that clients of Messages and of Converse have in common."""

    def joined(self, messages):
        """Return several messages of the user, joined into one message."""
        return self.user(*(block for message in messages for block in message["content"]))


class Messages(Turns):
    flag = dialect = "anthropic_messages"

    def path(self, model, *, stream):
        return "/v1/messages"

    def text(self, value, ttl=None):
        return marked({"type": "text", "text": value}, ttl)

    def image(self, data=PNG, mime="image/png"):
        return {"type": "image", "source": {"type": "base64", "media_type": mime, "data": data}}

    def document(self, data=PDF, name="", mime="application/pdf"):
        made = {"type": "document", "source": {"type": "base64", "media_type": mime, "data": data}}
        return {**made, "title": name} if name else made

    def user(self, *parts):
        return [{"role": "user", "content": list(parts)}]

    def assistant(self, value):
        return [{"role": "assistant", "content": value}]

    def called(self, *calls):
        made = [{"type": "tool_use", "id": tool_id, "name": name, "input": given} for tool_id, name, given in calls]
        return [{"role": "assistant", "content": made}]

    def answered(self, tool_id, *parts, error=False, ttl=None):
        made = {"type": "tool_result", "tool_use_id": tool_id, "content": list(parts)}
        return self.user(marked({**made, "is_error": True} if error else made, ttl))

    def tool(self, name="look", schema=NO_INPUT, description="Looks.", strict=None, ttl=None):
        made = {"name": name, "input_schema": schema, "description": description}
        return marked(made if strict is None else {**made, "strict": strict}, ttl)

    def body(self, conversation, tools=None, choice=None, limit=None, schema=None, **more):
        body = {"model": "m", "max_tokens": limit or 4000, "messages": conversation, **more}
        if tools is not None:
            body["tools"] = tools
        if choice is not None:
            plain = {name: {"type": name} for name in ("any", "auto", "none")}
            body["tool_choice"] = plain.get(choice, {"type": "tool", "name": choice})
        if schema is not None:
            body["output_config"] = {
                **body.get("output_config", {}),
                "format": {"type": "json_schema", "schema": schema},
            }
        return body

    def sampled(self, temperature, top_p):
        return {"temperature": temperature, "top_p": top_p}

    def effort(self, value):
        return {"output_config": {"effort": value}, "thinking": {"type": "adaptive"}}

    def thinking(self, tokens):
        return {"thinking": {"type": "enabled", "budget_tokens": tokens}}

    def read_reply(self, body):
        blocks, usage = body["content"], body["usage"]
        return ReplyContent(
            text="".join(block["text"] for block in blocks if block["type"] == "text"),
            thinking="".join(block["thinking"] for block in blocks if block["type"] == "thinking"),
            signatures=[b["signature"] for b in blocks if b["type"] == "thinking" and b["signature"]],
            redacted=[block["data"] for block in blocks if block["type"] == "redacted_thinking"],
            calls=[(b["id"], b["name"], b["input"]) for b in blocks if b["type"] == "tool_use"],
            stop=body["stop_reason"],
            citations=sum(len(block.get("citations") or ()) for block in blocks),
            input=usage["input_tokens"],
            read=usage["cache_read_input_tokens"],
            written=usage["cache_creation_input_tokens"],
            output=usage["output_tokens"],
        )

    def as_history(self, body):
        return [{"role": "assistant", "content": body["content"]}]


class Invoke(Messages):
    """The Messages format in Bedrock's InvokeModel, as Anthropic's Bedrock clients send it."""

    flag = "bedrock_model_invoke"

    def path(self, model, *, stream):
        return f"/bedrock/model/{model}/invoke{'-with-response-stream' if stream else ''}"

    def body(self, conversation, **wishes):
        body = super().body(conversation, **wishes)
        del body["model"]
        return {"anthropic_version": "bedrock-2023-05-31", **body}


class Converse(Turns):
    flag = dialect = "bedrock_converse"

    def path(self, model, *, stream):
        return f"/bedrock/model/{model}/converse{'-stream' if stream else ''}"

    def text(self, value, ttl=None):
        return {"text": value}

    def image(self, data=PNG, mime="image/png"):
        return {"image": {"format": mime.rpartition("/")[2], "source": {"bytes": data}}}

    def document(self, data=PDF, name="Paper", mime="application/pdf"):
        format_ = {"application/pdf": "pdf", "text/plain": "txt"}[mime]
        return {"document": {"format": format_, "name": name, "source": {"bytes": data}}}

    def point(self, ttl=""):
        return {"cachePoint": {"type": "default", "ttl": ttl} if ttl else {"type": "default"}}

    def user(self, *parts):
        return [{"role": "user", "content": list(parts)}]

    def assistant(self, value):
        return [{"role": "assistant", "content": [{"text": value}]}]

    def called(self, *calls):
        made = [{"toolUse": {"toolUseId": tool_id, "name": name, "input": given}} for tool_id, name, given in calls]
        return [{"role": "assistant", "content": made}]

    def answered(self, tool_id, *parts, error=False, ttl=None):
        made = {"toolUseId": tool_id, "content": list(parts), **({"status": "error"} if error else {})}
        return self.user({"toolResult": made}, *([] if ttl is None else [self.point(ttl)]))

    def tool(self, name="look", schema=NO_INPUT, description="Looks.", strict=None, ttl=None):
        made = {"name": name, "inputSchema": {"json": schema}, "description": description}
        return {"toolSpec": made if strict is None else {**made, "strict": strict}}

    def body(self, conversation, tools=None, choice=None, limit=None, schema=None, **more):
        body = {"messages": conversation, **more}
        if tools is not None:
            body["toolConfig"] = {"tools": tools}
        if choice is not None:
            plain = {name: {name: {}} for name in ("any", "auto")}
            body["toolConfig"]["toolChoice"] = plain.get(choice, {"tool": {"name": choice}})
        if limit is not None:
            body["inferenceConfig"] = {"maxTokens": limit}
        if schema is not None:
            inner = {"jsonSchema": {"name": "place", "schema": json.dumps(schema)}}
            body["outputConfig"] = {"textFormat": {"type": "json_schema", "structure": inner}}
        return body

    def sampled(self, temperature, top_p):
        return {"inferenceConfig": {"temperature": temperature, "topP": top_p}}

    def effort(self, value):
        return {"additionalModelRequestFields": {"thinking": {"type": "adaptive"}, "output_config": {"effort": value}}}

    def thinking(self, tokens):
        return {"additionalModelRequestFields": {"thinking": {"type": "enabled", "budget_tokens": tokens}}}

    def read_reply(self, body):
        blocks, usage = body["output"]["message"]["content"], body["usage"]
        thoughts = [block["reasoningContent"] for block in blocks if "reasoningContent" in block]
        texts = [thought["reasoningText"] for thought in thoughts if "reasoningText" in thought]
        calls = [block["toolUse"] for block in blocks if "toolUse" in block]
        paragraphs = [block.get("text", "") for block in blocks]
        paragraphs += [
            part["text"] for b in blocks if "citationsContent" in b for part in b["citationsContent"]["content"]
        ]
        return ReplyContent(
            text="".join(paragraphs),
            thinking="".join(text["text"] for text in texts),
            signatures=[text["signature"] for text in texts if text.get("signature")],
            redacted=[
                base64.b64decode(thought["redactedContent"]).decode()
                for thought in thoughts
                if "redactedContent" in thought
            ],
            calls=[(call["toolUseId"], call["name"], call["input"]) for call in calls],
            stop=body["stopReason"],
            citations=sum(len(b["citationsContent"]["citations"]) for b in blocks if "citationsContent" in b),
            input=usage["inputTokens"],
            read=usage.get("cacheReadInputTokens", 0),
            written=usage.get("cacheWriteInputTokens", 0),
            output=usage["outputTokens"],
        )

    def as_history(self, body):
        return [body["output"]["message"]]
