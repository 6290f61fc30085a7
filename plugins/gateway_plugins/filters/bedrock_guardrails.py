"""Checks prompts and replies with a guardrail of Amazon Bedrock (ApplyGuardrail), whatever provider serves the call.

- If the guardrail blocks a text, the call ends with the guardrail's own message. If it masks a text, the masked text is
  used.
- A streamed reply is checked in pieces of the length `characters`, and each piece waits for its check.
- AWS bills each 1,000 characters of a text, for each policy. The gateway does not add this to the cost of the call.

Source: AWS's API reference of Bedrock Runtime, ApplyGuardrail.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal
from urllib.parse import quote

from pydantic import Field, SecretStr

from gateway.contract import filter as filters
from gateway.contract.filter import Asked, CallView, Hold, HttpClient, blocked
from gateway.contract.places import Kind

api = 1
blocks = True

_CODE: Final = "guardrail_intervened"
_INTERVENED: Final = "GUARDRAIL_INTERVENED"
_MASKED: Final = "ANONYMIZED"
_OK: Final = 200


class Settings(filters.Settings):
    guardrail: str = Field(description='The identifier or the ARN of the guardrail: "gr12345abcde".')
    version: str = Field("DRAFT", description='The version of the guardrail: "1", or "DRAFT".')
    region: str = Field("us-east-1", description="The region of the guardrail.")
    apikey: SecretStr = Field(description='An API key of Bedrock: "env:AWS_BEARER_TOKEN_BEDROCK".')
    baseurl: str = Field("", description="The address of Bedrock Runtime, if it is not that of the region.")
    prompts: bool = Field(True, description="Whether prompts are checked.")
    replies: bool = Field(True, description="Whether replies are checked.")
    characters: Annotated[int, Field(ge=100, le=25_000)] = Field(
        1000, description="Number of characters of a streamed reply that are checked together."
    )


def open(call: CallView, settings: Settings) -> Guardrail:  # noqa: A001 (the contract's name)
    return Guardrail(call.http, settings)


def samples() -> list[Settings]:
    return [Settings.model_validate({"guardrail": "gr12345abcde", "apikey": SecretStr("a-key")})]


class Guardrail:
    def __init__(self, http: HttpClient, settings: Settings) -> None:
        self._http = http
        self._settings = settings
        base = settings.baseurl.rstrip("/") or f"https://bedrock-runtime.{settings.region}.amazonaws.com"
        path = f"/guardrail/{quote(settings.guardrail, safe='')}/version/{quote(settings.version, safe='')}/apply"
        self._url = base + path

    async def request(self, asked: Asked) -> Asked | None:
        if not self._settings.prompts:
            return None
        texts = [text.text for text in asked.texts]
        checked = [number for number, text in enumerate(asked.texts) if text.role in {"user", "tool"} and text.text]
        if not checked:
            return None
        for number, text in zip(checked, await self._apply("INPUT", [texts[at] for at in checked]), strict=True):
            texts[number] = text
        return asked.with_texts(texts)

    async def text(self, kind: Kind, piece: str, last: bool) -> str | Hold:
        if not self._settings.replies or kind != "text" or not piece.strip():
            return piece
        if not last and len(piece) < self._settings.characters:
            return Hold("", piece)
        (text,) = await self._apply("OUTPUT", [piece])
        return text

    async def _apply(self, source: Literal["INPUT", "OUTPUT"], texts: Sequence[str]) -> Sequence[str]:
        """Return the texts after masking by the guardrail. Raises `Refused` if the guardrail blocks a text.

        `source` is INPUT for a prompt, and OUTPUT for a reply.
        """
        reply = await self._http.send(
            "POST",
            self._url,
            headers={"authorization": f"Bearer {self._settings.apikey.get_secret_value()}"},
            json={"source": source, "content": [{"text": {"text": text}} for text in texts]},
        )
        if reply.status != _OK:
            raise ConnectionError(f"the guardrail answered with status {reply.status}")
        result = reply.json()
        if result["action"] != _INTERVENED:
            return texts
        outputs = [output["text"] for output in result["outputs"]]
        if set(_actions(result["assessments"])) <= {_MASKED, "NONE"} and len(outputs) == len(texts):
            return outputs
        raise blocked(_CODE, outputs[0] if outputs else "a guardrail does not let this text pass")


def _actions(assessments: Any) -> Sequence[str]:
    """Return the values of `action`, such as `BLOCKED` and `ANONYMIZED`, of all policies in the assessments."""
    if isinstance(assessments, list):
        return [action for inner in assessments for action in _actions(inner)]
    if isinstance(assessments, dict):
        own = [assessments["action"]] if isinstance(assessments.get("action"), str) else []
        return [*own, *(action for inner in assessments.values() for action in _actions(inner))]
    return []
