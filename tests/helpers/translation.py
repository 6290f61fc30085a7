"""Runs a translator alone: a client's body becomes an upstream body, without the plugins of either API.

`Translator` also checks the upstream body. By default, it uses the rules of the simulated provider (`upstream_fault`).
A test file may set another check (`Translator.checks`).

`conversion.py` runs a translator together with the plugins of both APIs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson
import pytest

from gateway.contract.capabilities import Caps, capabilities
from gateway.contract.errors import Refused
from gateway.contract.flag import ClientRequest, Event, Members, Target, event
from gateway.testkit.judge import judge
from gateway.testkit.rules.chat import chat_fault
from gateway.testkit.rules.claude import claude_fault
from gateway.testkit.rules.converse import converse_fault
from gateway.testkit.rules.gemini import gemini_fault
from tests.helpers.own_plugins import discover_own

TRANSLATORS = discover_own().translators
PATHS = {
    "openai_chat": "/v1/chat/completions",
    "openai_responses": "/v1/responses",
    "anthropic_messages": "/v1/messages",
    "bedrock_converse": "/model/m/converse",
    "gemini_generate_content": "/v1beta/models/m:generateContent",
}
"""The path of a request by the client's dialect."""


def upstream_fault(dialect: str, body: dict[str, Any], caps: Caps, *, stream: bool = False) -> str | None:
    """Return the fault that a simulated provider of this dialect finds in a body, or None."""
    if dialect == "openai_chat":
        return chat_fault(body)
    if dialect == "gemini_generate_content":
        return gemini_fault(body)
    if dialect == "bedrock_converse":
        return judge("ConverseStream" if stream else "Converse", body) or converse_fault(body, caps)
    return claude_fault({name: value for name, value in body.items() if name != "anthropic_beta"}, caps, bedrock=False)


class Translated(NamedTuple):
    translation: Any
    dropped: list[str]
    """The fields that were reported as dropped."""

    @property
    def body(self) -> Any:
        """The upstream body."""
        return orjson.loads(self.translation.request.top.body)


@dataclass(frozen=True)
class Translator:
    """The translator between two dialects, with default values for its tests.

    Its methods take a client's body, and add the fields of `base` to it. They also take a model: either its name, or
    its capabilities if a test does not need a name.
    """

    client: str
    upstream: str
    base: dict[str, Any]
    model: str | Caps
    unnamed_model: str = "some.model-v1:0"
    """The model's name in the upstream request, if a test gives only the model's capabilities."""
    flag: str = ""
    """The provider's compatibility flag. It is "" if the flag has the same name as the upstream dialect."""
    checks: Callable[..., None] | None = field(default=None, compare=False)
    """A function `(body, caps, stream=...)` that checks the upstream body. If it is None, the body is checked by the
    simulated provider's rules.
    """

    @property
    def module(self) -> Any:
        """The module of the translator."""
        return TRANSLATORS[self.client, self.upstream]

    def request(
        self, body: dict[str, Any], *, stream: bool = False, headers: dict[str, str] | None = None
    ) -> ClientRequest:
        top = Members(orjson.dumps({**self.base, **body}))
        path, model = PATHS[self.client], self.base.get("model", "m")
        return ClientRequest(
            self.client, self.client, "generate", "POST", path, "", headers or {}, top, model, stream
        )  # fmt: skip

    def target(self, model: str | Caps | None = None, caps: Caps | None = None) -> Target:
        model = self.model if model is None else model
        name = self.unnamed_model if isinstance(model, Caps) else model
        caps = caps or (model if isinstance(model, Caps) else capabilities(model))
        return Target("p", self.flag or self.upstream, name, self.upstream, caps)

    def open(
        self,
        body: dict[str, Any],
        model: str | Caps | None = None,
        drops: list[str] | None = None,
        *,
        caps: Caps | None = None,
        stream: bool = False,
        headers: dict[str, str] | None = None,
        judged: bool = True,
    ) -> Translated:
        """Return the translation of a body. Check the upstream body, unless `judged` is false.

        Raises `Refused` if the translator refuses the request.
        """
        drops = [] if drops is None else drops
        target = self.target(model, caps)
        request = self.request(body, stream=stream, headers=headers)
        made = Translated(self.module.open(request, target, drops.append), drops)
        assert made.translation.request.dialect == self.upstream
        if judged:
            self.check(made.body, target.caps, stream=stream)
        return made

    def check(self, body: dict[str, Any], caps: Caps, *, stream: bool) -> None:
        if self.checks is not None:
            self.checks(body, caps, stream=stream)
            return
        fault = upstream_fault(self.upstream, body, caps, stream=stream)
        assert fault is None, fault

    def unjudged(self, body: dict[str, Any], model: str | Caps | None = None, drops: Any = None, **options: Any) -> Any:
        """Return the translation of a body. The upstream body is not checked."""
        return self.open(body, model, drops, judged=False, **options).translation

    def messages(self, *messages: dict[str, Any], model: str | Caps | None = None, **more: Any) -> Any:
        """Return the `messages` of the upstream body for a request with the client's `messages`."""
        return self.sent({"messages": list(messages), **more}, model)["messages"]

    def sent(self, body: dict[str, Any], model: str | Caps | None = None, drops: Any = None, **options: Any) -> Any:
        """Return the upstream body, after a check by the simulated provider's rules or by `checks`."""
        return self.open(body, model, drops, **options).body

    def dropped(self, body: dict[str, Any], model: str | Caps | None = None, **options: Any) -> list[str]:
        """Return the fields that were reported as dropped."""
        return self.open(body, model, **options).dropped

    def refusal(self, body: dict[str, Any], model: str | Caps | None = None, **options: Any):
        """Return the problem in the error with which the translator refuses the request. Fail if it accepts the
        request.
        """
        with pytest.raises(Refused) as refused:
            self.open(body, model, **options)
        return refused.value.problem


def client_events(translation: Any, pairs: Any) -> list[Event]:
    """Translate a provider's stream. Return the client's events, including those that the translator adds at the end of
    the stream.

    `pairs` are the provider's events as (event type, data).
    """
    out = [made for kind, data in pairs for made in translation.feed(event(kind, data))]
    return [*out, *translation.close()]
