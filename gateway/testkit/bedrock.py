"""A simulated bedrock-runtime: InvokeModel and Converse, each with and without streaming, and CountTokens.

The same address also serves operations of Bedrock's control plane: two lists (ListFoundationModels and
ListInferenceProfiles) and batches. Asynchronous invocations and batches are in `bedrock_jobs.py`.

The simulator is as strict as the real service. It checks requests by botocore's service model (`judge.py`) and by
further rules (`rules/`), and it checks bearer keys and signatures. Errors have AWS's form, and streams consist of AWS's
event stream frames.
"""

from __future__ import annotations

import base64
import random
from dataclasses import replace
from typing import Any, Final
from urllib.parse import unquote

import orjson
from aiohttp import web

from gateway.contract.capabilities import Caps, capabilities, geo
from gateway.contract.framing import eventstream
from gateway.testkit import prompts
from gateway.testkit.aws import REGION
from gateway.testkit.aws_account import AwsAccount, Unauthorized
from gateway.testkit.bedrock_jobs import BedrockJobs
from gateway.testkit.bedrock_lists import LISTS, BedrockListing
from gateway.testkit.judge import judge, model_id_fault
from gateway.testkit.render import converse as render_converse
from gateway.testkit.render import invoke as render_invoke
from gateway.testkit.rules.claude import claude_fault
from gateway.testkit.rules.converse import converse_fault
from gateway.testkit.scenarios import Canned, Scenario
from gateway.testkit.simulator import Refusal, Seen, Simulator

MAX_BODY: Final = 25_000_000
"""Maximum number of bytes of a request's body. This is the limit for an InvokeModel body in botocore's service
model."""

STATUS: Final = {
    "ValidationException": 400,
    "AccessDeniedException": 403,
    "ExpiredTokenException": 403,
    "InvalidSignatureException": 403,
    "MissingAuthenticationTokenException": 403,
    "UnrecognizedClientException": 403,
    "ResourceNotFoundException": 404,
    "ModelTimeoutException": 408,
    "ThrottlingException": 429,
    "ServiceQuotaExceededException": 400,
    "ModelNotReadyException": 429,
    "ModelErrorException": 424,
    "ModelStreamErrorException": 424,
    "ConflictException": 400,
    "InternalServerException": 500,
    "ServiceUnavailableException": 503,
}
_UNKNOWN_OPERATION: Final = {
    "Output": {"__type": "com.amazon.coral.service#UnknownOperationException"},
    "Version": "1.0",
}
"""The reply of the real service to a wrong path, with status 200 (litellm#3805)."""
_REQUEST_ID: Final = {"x-amzn-requestid": "simulated"}
_STREAM_HEADERS: Final = {
    "content-type": "application/vnd.amazon.eventstream",
    "x-amzn-bedrock-content-type": "application/json",
    **_REQUEST_ID,
}
_PADDING: Final = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_OPERATIONS: Final = {
    "invoke": "InvokeModel",
    "invoke-with-response-stream": "InvokeModelWithResponseStream",
    "converse": "Converse",
    "converse-stream": "ConverseStream",
    "count-tokens": "CountTokens",
}


class BedrockSim(Simulator):
    """A simulated bedrock-runtime on a port of its own.

    `models` are the ids of the models that exist. If `models` is None, every ARN and every id of a known model family
    exists.

    By default, only thinking that this simulator has signed is accepted in requests. With `any_signature`, any
    signature is accepted, for recorded requests.
    """

    def __init__(
        self, keys: set[str] | None = None, models: set[str] | None = None, *, any_signature: bool = False
    ) -> None:
        super().__init__(keys)
        self.models = models
        self.profiles: dict[str, str] = {}
        """The id of the model behind each inference profile, by the ARN of the profile."""
        self.listing = BedrockListing()
        """The models and profiles in the lists of the control plane."""
        self.jobs = BedrockJobs()
        self._any_signature = any_signature
        self.account: AwsAccount | None = None
        """The account that checks each request's signature or short-term API key. If there is no account, the bearer
        token of a request must be one of `keys`.
        """

    def failure(self, name: str, message: str) -> Refusal:
        return aws_error(name, message)

    async def respond(self, seen: Seen, request: web.Request) -> web.StreamResponse:
        self._check_key(seen)
        if seen.method == "GET" and seen.path in LISTS:
            return self.listing.answer(seen)
        if self.jobs.serves(seen.path):
            return self.jobs.answer(seen)
        head, _, operation = seen.path.rpartition("/")
        quoted = head.removeprefix("/model/")
        if operation not in _OPERATIONS or not head.startswith("/model/") or "/" in quoted:
            raise Refusal(200, _UNKNOWN_OPERATION)
        model = unquote(quoted)
        if len(seen.body) > MAX_BODY:
            raise aws_error("ValidationException", "The request body is too large.")
        try:
            body = orjson.loads(seen.body)
        except orjson.JSONDecodeError:
            raise aws_error("ValidationException", "Malformed input request, please reformat your input.") from None
        caps = self._caps(model)
        if operation == "count-tokens" and geo(model):  # CountTokens accepts base ids only (litellm#32683)
            raise aws_error("ValidationException", "The provided model identifier is invalid.")
        _refuse_if(model_id_fault(model) or _fault(operation, body, caps))
        prompt = prompts.read(_counted_request(body) if operation == "count-tokens" else body)
        scenario, reply = await self.choose(prompt)
        if operation == "count-tokens":
            return await self.whole(request, scenario, orjson.dumps({"inputTokens": prompt.tokens}), _REQUEST_ID)
        reply = self.billed(reply, model, caps, body)
        if operation.startswith("invoke"):
            return await self._invoke(request, operation, model, caps, scenario, reply, prompt.tokens)
        return await self._converse(request, operation, scenario, reply, prompt.tokens)

    def _check_key(self, seen: Seen) -> None:
        if self.account is not None:
            try:
                self.account.judge(seen, "bedrock", REGION)
            except Unauthorized as refusal:
                raise aws_error(refusal.name, refusal.message, date=self.account.date) from None
            return
        scheme, _, key = seen.headers.get("authorization", "").partition(" ")
        if self.keys is not None and (scheme != "Bearer" or key not in self.keys):
            message = "Authentication failed: Please make sure your API Key is valid."
            raise Refusal(403, {"Message": message})

    def _caps(self, model: str) -> Caps:
        caps = capabilities(self.profiles.get(model, model))
        known = model in self.models if self.models is not None else bool(caps.family) or model.startswith("arn:")
        if not known:
            raise aws_error("ValidationException", "The provided model identifier is invalid.")
        return replace(caps, signed_reasoning=False) if self._any_signature else caps

    async def _converse(
        self, request: web.Request, operation: str, scenario: Scenario, reply: Canned, prompt_tokens: int
    ) -> web.StreamResponse:
        if operation == "converse":
            body = orjson.dumps(render_converse.whole(reply, prompt_tokens))
            return await self.whole(request, scenario, body, _REQUEST_ID)
        events = render_converse.events(reply, prompt_tokens)
        frames = [_event(kind, {**data, "p": _padding()}) for kind, data in events]
        return await self.stream(request, scenario, frames, _exception(scenario), _STREAM_HEADERS)

    async def _invoke(
        self,
        request: web.Request,
        operation: str,
        model: str,
        caps: Caps,
        scenario: Scenario,
        reply: Canned,
        prompt_tokens: int,
    ) -> web.StreamResponse:
        if operation == "invoke":
            whole = orjson.dumps(render_invoke.whole(caps, model, reply, prompt_tokens))
            headers = {**_REQUEST_ID, **render_invoke.headers(reply, prompt_tokens)}
            return await self.whole(request, scenario, whole, headers)
        frames = [_chunk(event) for event in render_invoke.events(caps, model, reply, prompt_tokens)]
        return await self.stream(request, scenario, frames, _exception(scenario), _STREAM_HEADERS)


def aws_error(name: str, message: str, **headers: str) -> Refusal:
    """Return an error response of bedrock-runtime. Its header `x-amzn-errortype` is the error's name and a URL, as at
    AWS.
    """
    kind = f"{name}:http://internal.amazon.com/coral/com.amazon.bedrock/"
    return Refusal(STATUS.get(name, 500), {"message": message}, {"x-amzn-errortype": kind, **_REQUEST_ID, **headers})


def _refuse_if(fault: str | None) -> None:
    if fault is not None:
        raise aws_error("ValidationException", fault)


def _fault(operation: str, body: Any, caps: Caps) -> str | None:
    """Return Bedrock's error message about the first fault of a request body, or None if the body is valid.

    An InvokeModel body is checked only if it is for Claude.
    """
    if not isinstance(body, dict):
        return "Malformed input request, please reformat your input."
    if operation.startswith("converse"):
        return judge(_OPERATIONS[operation], body) or converse_fault(body, caps)
    if operation.startswith("invoke"):
        return claude_fault(body, caps, bedrock=True) if caps.native_dialect == "anthropic_messages" else None
    if fault := judge("CountTokens", body):
        return fault
    counted = _counted_request(body)
    return converse_fault(counted, caps) if "converse" in body["input"] else claude_fault(counted, caps, bedrock=True)


def _counted_request(body: dict[str, Any]) -> dict[str, Any]:
    """Return the request whose tokens CountTokens must count.

    Raises `Refusal` if this is an InvokeModel request and its body is no JSON object.
    """
    given = body["input"]
    if "converse" in given:
        return dict(given["converse"])
    try:
        request = orjson.loads(base64.b64decode(given["invokeModel"]["body"]))
    except ValueError:
        request = None
    if not isinstance(request, dict):
        raise aws_error("ValidationException", "Malformed input request, please reformat your input.")
    return request


def _event(kind: str, data: dict[str, Any]) -> bytes:
    headers = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    return eventstream.encode(headers, orjson.dumps(data))


def _chunk(data: dict[str, Any]) -> bytes:
    return _event("chunk", {"bytes": base64.b64encode(orjson.dumps(data)).decode(), "p": _padding()})


def _padding() -> str:
    return _PADDING[: random.randrange(1, len(_PADDING))]  # noqa: S311 (nothing is kept secret by it here)


def _exception(scenario: Scenario) -> bytes:
    name = scenario.error or "internalServerException"
    headers = {
        ":exception-type": name[:1].lower() + name[1:],
        ":content-type": "application/json",
        ":message-type": "exception",
    }
    return eventstream.encode(headers, orjson.dumps({"message": scenario.message}))
