"""Jobs of Bedrock: asynchronous invocations (StartAsyncInvoke) and batches (CreateModelInvocationJob).

- A job reads and writes S3 buckets of the AWS account. A batch does so with an IAM role that the request names. Because
  callers thus reach these buckets, a provider serves jobs only if its option `jobs` is set.
- Batches are operations of Bedrock's control plane, which has a host of its own.
- The reply to a request that starts a job reports neither tokens nor a price. Only AWS's bill shows the cost of a job.

Source: botocore's service models of bedrock-runtime and bedrock.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple
from urllib.parse import quote, unquote

import orjson
from pydantic import Field

from gateway.contract import json_api, lenient_json
from gateway.contract.errors import NOT_FOUND, Problem, Refused, invalid
from gateway.contract.flag import (
    LIST_JOBS,
    OPAQUE,
    READ_JOB,
    START_JOB,
    STOP_JOB,
    ClientRequest,
    Event,
    Facts,
    HttpRequest,
    Members,
    Part,
    Route,
    Target,
    UpstreamRequest,
)
from gateway_plugins.dialects.anthropic_messages.betas import BetaOptions
from gateway_plugins.dialects.bedrock.model_search import control_plane
from gateway_plugins.shared import lenient

OPERATIONS: Final = frozenset({START_JOB, READ_JOB, STOP_JOB, LIST_JOBS})
_ASYNC: Final = "/async-invoke"
_BATCH: Final = "/model-invocation-job"
_STOP: Final = "/stop"
_PATHS: Final = (
    ("POST", _ASYNC, START_JOB),
    ("GET", _ASYNC, LIST_JOBS),
    ("GET", f"{_ASYNC}/{{job:.+}}", READ_JOB),
    ("POST", _BATCH, START_JOB),
    ("GET", f"{_BATCH}s", LIST_JOBS),
    ("GET", f"{_BATCH}/{{job:.+}}", READ_JOB),
    ("POST", f"{_BATCH}/{{job:.+}}{_STOP}", STOP_JOB),
)
ROUTES: Final = tuple(
    Route(method, f"{prefix}{path}", operation) for prefix in ("", "/bedrock") for method, path, operation in _PATHS
)
_JOB: Final = re.compile(
    r"(?:arn:aws(?:-[^:/]+)?:bedrock:([a-z0-9-]{1,20}):[0-9]{12}:(?:async-invoke|model-invocation-job)/)?[a-z0-9]{12}"
)
"""Pattern for the id or the ARN of a job. Its group is the region in the ARN."""
_QUERY: Final = frozenset(
    {
        "submitTimeAfter", "submitTimeBefore", "statusEquals", "nameContains", "maxResults", "nextToken", "sortBy",
        "sortOrder",
    }
)  # fmt: skip
_REGION: Final = re.compile(r"bedrock-runtime(?:-fips)?\.([a-z0-9-]+)\.")
_HEADERS: Final = {"content-type": "application/json", "accept": "application/json"}
_MODEL: Final = "modelId"


class Options(BetaOptions):
    """Options of a provider for InvokeModel: which betas are sent, and whether callers may start jobs."""

    jobs: bool = Field(
        default=False,
        description="Whether callers may start jobs (asynchronous invocations and batches). Jobs read and write S3 "
        "buckets of the account, and their cost is unknown: true or false.",
    )


class _Asked(NamedTuple):
    """The kind of job, and the job, that the path of a request names."""

    root: str
    """The beginning of the path, which shows the kind of job: `_ASYNC` or `_BATCH`."""
    job: str
    """The id or the ARN of the job, with URL escapes decoded. It is "" for a request that names no job."""


def parse(flag: str, request: HttpRequest) -> ClientRequest:
    """Return the client's request about jobs. Only a request that starts a job names a model.

    Raises `Refused` for a malformed job id or model name.
    """
    operation = request.route.operation
    if operation == START_JOB:
        top = Members(request.body)
        return json_api.client_request(flag, OPAQUE, request, top, model=json_api.model_of(top, _MODEL), stream=False)
    if operation != LIST_JOBS and not _JOB.fullmatch(request.params["job"]):
        raise invalid("job: is neither the id nor the ARN of a job", "job")
    return json_api.client_request(flag, OPAQUE, request, Members(b"{}"), model="", stream=False)


def build(request: ClientRequest, target: Target) -> UpstreamRequest:
    """Return the request to Bedrock.

    Raises `Refused` if the provider's option `jobs` is not set, or if the job is in another region than the provider.
    """
    if not (isinstance(target.options, Options) and target.options.jobs):
        raise invalid(
            f'provider "{target.provider}" serves no jobs; set "options": {{"{target.flag}": {{"jobs": true}}}} there'
        )
    asked = _asked(request)
    subdomain = control_plane(target.host) if asked.root == _BATCH else ""
    path = f"{asked.root}/{quote(asked.job, safe='')}" if asked.job else asked.root
    match request.operation:
        case operation if operation == START_JOB:
            return UpstreamRequest("POST", path, _start_body(request, target), "", _HEADERS, subdomain)
        case operation if operation == LIST_JOBS:
            path = f"{_BATCH}s" if asked.root == _BATCH else path
            query = json_api.known_query(request.query, _QUERY)
            return UpstreamRequest("GET", path, b"", query, _HEADERS, subdomain)
    _require_region(asked.job, target)
    if request.operation == STOP_JOB:
        return UpstreamRequest("POST", f"{path}{_STOP}", b"", "", _HEADERS, subdomain)
    return UpstreamRequest("GET", path, b"", "", _HEADERS, subdomain)


def _start_body(request: ClientRequest, target: Target) -> bytes:
    """Return the body of a request that starts a job. The client's name of the model is replaced by the provider's."""
    if request.model == target.model:
        return request.top.body
    return request.top.replaced(_MODEL, orjson.dumps(target.model)).body


def _asked(request: ClientRequest) -> _Asked:
    path = request.path.removeprefix("/bedrock")
    root = _BATCH if path.startswith(_BATCH) else _ASYNC
    if request.operation not in {READ_JOB, STOP_JOB}:
        return _Asked(root, "")
    return _Asked(root, unquote(path.removeprefix(root).removeprefix("/").removesuffix(_STOP)))


def _require_region(job: str, target: Target) -> None:
    """Raise `Refused` if the ARN of a job and the host of the provider name different regions."""
    named, own = _JOB.fullmatch(job), _REGION.match(target.host)
    if named and named[1] and own and named[1] != own[1]:
        message = f'the job is in {named[1]}, and provider "{target.provider}" is in {own[1]}'
        raise Refused(Problem(NOT_FOUND, message, param="job"))


class JobDecoder:
    """Passes on replies about jobs unchanged. Such replies are never streams."""

    done = True

    def feed(self, _data: bytes) -> Iterator[Event]:
        return iter(())

    def close(self) -> Iterator[Event]:
        return iter(())

    def whole(self, body: bytes) -> bytes:
        return body


class JobMeter:
    """Reads the model of a job. Replies about jobs report no tokens."""

    def __init__(self) -> None:
        self._model = ""

    def feed(self, _event: Event) -> None:
        """Do nothing, because there are no events."""

    def whole(self, body: bytes) -> None:
        data = _decoded(body)
        name = lenient.text(data.get("modelArn")) or lenient.text(data.get(_MODEL))
        self._model = name.rpartition("/")[2] if ":foundation-model/" in name or ":inference-profile/" in name else name

    def facts(self) -> Facts:
        return Facts((Part(model=self._model),))


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        return lenient.mapping(lenient_json.loads(body))
    except orjson.JSONDecodeError:
        return {}
