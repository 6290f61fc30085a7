"""The jobs of a simulated Bedrock: asynchronous invocations and batches (model invocation jobs).

Bodies are checked by botocore's service models. Replies have the fields of these models, and wrong requests are refused
as AWS refuses them.
"""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final
from urllib.parse import parse_qs, unquote

import orjson
from aiohttp import web

from gateway.testkit.aws import REGION
from gateway.testkit.bedrock_lists import ACCOUNT, model_arn
from gateway.testkit.judge import judge
from gateway.testkit.simulator import Refusal, Seen

_ASYNC: Final = "/async-invoke"
_BATCH: Final = "/model-invocation-job"
_STOP: Final = "/stop"
_ID: Final = re.compile(r"[a-z0-9]{12}")
_MODEL: Final = re.compile(r"[a-zA-Z0-9._:/-]{1,2048}")
_RUNNING: Final = "InProgress"


@dataclass(slots=True)
class Job:
    """An asynchronous invocation or a batch."""

    arn: str
    request: dict[str, Any]
    """The body of the request that started the job."""
    status: str = _RUNNING


@dataclass(slots=True)
class BedrockJobs:
    """The jobs that clients have started, by ARN."""

    jobs: dict[str, Job] = field(default_factory=dict)
    region: str = REGION
    """The AWS region in the ARNs of the jobs."""

    def serves(self, path: str) -> bool:
        """Return whether a path belongs to an operation on jobs."""
        return path.startswith((_ASYNC, _BATCH))

    def answer(self, seen: Seen) -> web.Response:
        """Return the reply to a request. Raises `Refusal` if the request is wrong."""
        match seen.method, seen.path:
            case "POST", "/async-invoke":
                return _json({"invocationArn": self._start(seen, "async-invoke")})
            case "POST", "/model-invocation-job":
                return _json({"jobArn": self._start(seen, "model-invocation-job")})
            case "GET", "/async-invoke":
                return _json({"asyncInvokeSummaries": self._list(seen, "async-invoke")})
            case "GET", "/model-invocation-jobs":
                return _json({"invocationJobSummaries": self._list(seen, "model-invocation-job")})
            case "GET", path:
                return _json(_shown(self._job(path)))
            case "POST", path if path.startswith(_BATCH) and path.endswith(_STOP):
                job = self._job(path.removesuffix(_STOP))
                if job.status != _RUNNING:
                    raise _error(409, "ConflictException", "The job is already in a final state.")
                job.status = "Stopping"
                return _json({})
        raise _error(404, "UnknownOperationException", "")

    def _start(self, seen: Seen, kind: str) -> str:
        """Store a job, and return its ARN."""
        try:
            body = orjson.loads(seen.body)
        except orjson.JSONDecodeError:
            raise _error(400, "ValidationException", "Malformed input request") from None
        fault = judge("StartAsyncInvoke", body) if kind == "async-invoke" else _batch_fault(body)
        if fault or not _MODEL.fullmatch(body["modelId"]):
            raise _error(400, "ValidationException", fault or "The provided model identifier is invalid.")
        arn = f"arn:aws:bedrock:{self.region}:{ACCOUNT}:{kind}/{len(self.jobs):012d}"
        self.jobs[arn] = Job(arn, body)
        return arn

    def _job(self, path: str) -> Job:
        kind, _, quoted = path.removeprefix("/").partition("/")
        given = unquote(quoted)
        arn = f"arn:aws:bedrock:{self.region}:{ACCOUNT}:{kind}/{given}" if _ID.fullmatch(given) else given
        if "/" in quoted or (job := self.jobs.get(arn)) is None:
            raise _error(404, "ResourceNotFoundException", "The specified job does not exist.")
        return job

    def _list(self, seen: Seen, kind: str) -> list[dict[str, Any]]:
        query = {name: values[0] for name, values in parse_qs(seen.query, strict_parsing=bool(seen.query)).items()}
        status = query.get("statusEquals")
        jobs = [job for job in self.jobs.values() if f":{kind}/" in job.arn]
        return [_shown(job) for job in jobs if status in {None, job.status}]


def _shown(job: Job) -> dict[str, Any]:
    """Return a job in the JSON form that AWS uses, both for a single job and in lists."""
    request, now = job.request, datetime(2026, 11, 23, tzinfo=UTC).isoformat()
    common = {"status": job.status, "submitTime": now, "outputDataConfig": request["outputDataConfig"]}
    if ":async-invoke/" in job.arn:
        model = request["modelId"]
        arn = model if model.startswith("arn:") else model_arn(model)
        return {**common, "invocationArn": job.arn, "modelArn": arn}
    given = {name: request[name] for name in ("jobName", "modelId", "roleArn", "inputDataConfig")}
    return {**common, **given, "jobArn": job.arn}


@cache
def _batches() -> Any:
    """Return botocore's definition of the parameters with which CreateModelInvocationJob creates a batch."""
    session = importlib.import_module("botocore.session")
    return session.get_session().get_service_model("bedrock").operation_model("CreateModelInvocationJob").input_shape


def _batch_fault(body: Any) -> str | None:
    validate = importlib.import_module("botocore.validate")
    report = validate.ParamValidator().validate(body, _batches())
    return str(report.generate_report()) if report.has_errors() else None


def _json(body: dict[str, Any]) -> web.Response:
    headers = {"content-type": "application/json", "x-amzn-requestid": "simulated"}
    return web.Response(body=orjson.dumps(body), headers=headers)


def _error(status: int, name: str, message: str) -> Refusal:
    return Refusal(status, {"message": message}, {"x-amzn-errortype": name, "x-amzn-requestid": "simulated"})
