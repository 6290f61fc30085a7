"""The client of Gemini's generateContent, with the methods that `clients.py` describes."""

from __future__ import annotations

from tests.helpers.reply_content import ReplyContent
from tests.helpers.samples import NO_INPUT, PDF, PNG


class Gemini:
    flag = dialect = "gemini_generate_content"

    def path(self, model, *, stream):
        return f"/v1beta/models/{model}:{'streamGenerateContent?alt=sse' if stream else 'generateContent'}"

    def text(self, value, ttl=None):
        return {"text": value}

    def image(self, data=PNG, mime="image/png"):
        return {"inlineData": {"mimeType": mime, "data": data}}

    def document(self, data=PDF, name="", mime="application/pdf"):
        inner = {"mimeType": mime, "data": data}
        return {"inlineData": {**inner, "displayName": name} if name else inner}

    def user(self, *parts):
        return [{"role": "user", "parts": list(parts)}]

    def assistant(self, value):
        return [{"role": "model", "parts": [{"text": value}]}]

    def called(self, *calls):
        made = [{"functionCall": {"id": tool_id, "name": name, "args": given}} for tool_id, name, given in calls]
        return [{"role": "model", "parts": made}]

    def answered(self, tool_id, *parts, error=False, ttl=None, name="look"):
        text = "".join(part.get("text", "") for part in parts)
        files = [part for part in parts if "text" not in part]
        response = {"id": tool_id, "name": name, "response": {"error" if error else "output": text}}
        return self.user({"functionResponse": response | ({"parts": files} if files else {})})

    def joined(self, messages):
        """Return several messages of the user, joined into one (`contents` with the role `user`)."""
        return self.user(*(part for message in messages for part in message["parts"]))

    def tool(self, name="look", schema=NO_INPUT, description="Looks.", strict=None, ttl=None):
        return {"functionDeclarations": [{"name": name, "parametersJsonSchema": schema, "description": description}]}

    def body(self, conversation, tools=None, choice=None, limit=None, schema=None, **more):
        config = dict(more.pop("generationConfig", {}))
        body = {"contents": conversation, **more}
        if tools is not None:
            body["tools"] = tools
        if choice is not None:
            plain = {name: {"mode": name.upper()} for name in ("any", "auto", "none")}
            calling = plain.get(choice, {"mode": "ANY", "allowedFunctionNames": [choice]})
            body["toolConfig"] = {"functionCallingConfig": calling}
        if limit is not None:
            config["maxOutputTokens"] = limit
        if schema is not None:
            config |= {"responseMimeType": "application/json", "responseJsonSchema": schema}
        return body | ({"generationConfig": config} if config else {})

    def sampled(self, temperature, top_p):
        return {"generationConfig": {"temperature": temperature, "topP": top_p}}

    def effort(self, value):
        return {"generationConfig": {"thinkingConfig": {"thinkingLevel": value.upper(), "includeThoughts": True}}}

    def thinking(self, tokens):
        return {"generationConfig": {"thinkingConfig": {"thinkingBudget": tokens, "includeThoughts": True}}}

    def read_reply(self, body):
        (candidate,) = body["candidates"]
        parts, usage = candidate["content"]["parts"], body["usageMetadata"]
        calls = [part["functionCall"] for part in parts if "functionCall" in part]
        citations = candidate.get("citationMetadata", {}).get("citationSources", ())
        read = usage.get("cachedContentTokenCount", 0)
        return ReplyContent(
            text="".join(part.get("text", "") for part in parts if not part.get("thought")),
            thinking="".join(part["text"] for part in parts if part.get("thought")),
            signatures=[part["thoughtSignature"] for part in parts if "thoughtSignature" in part],
            redacted=[],
            calls=[(call["id"], call["name"], call["args"]) for call in calls],
            stop=candidate["finishReason"],
            citations=len(citations),
            input=usage["promptTokenCount"] - read,
            read=read,
            written=0,
            output=usage["candidatesTokenCount"] + usage.get("thoughtsTokenCount", 0),
        )

    def as_history(self, body):
        return [body["candidates"][0]["content"]]
