"""Tests of a provider's errors as each client gets them: before a reply and inside a stream, for every pair of
dialects.
"""

import json

import pytest

from gateway.contract import errors
from gateway.contract.capabilities import Caps
from gateway.contract.errors import Problem, UpstreamFailed
from gateway.contract.flag import ClientRequest, Head, Members, Target
from gateway.contract.framing import eventstream, sse
from gateway.contract.registry import load_plugin
from gateway_plugins import anthropic_messages, bedrock_converse, bedrock_model_invoke, openai_chat

WORDS = "Input is too long for requested model."
FLAGS = {module.__name__.rpartition(".")[2]: load_plugin(module.__name__.rpartition(".")[2], module) for module in (
    anthropic_messages, bedrock_converse, bedrock_model_invoke, openai_chat,
)}  # fmt: skip

BEDROCKS = [
    # exception, its status; Anthropic's status and type; OpenAI's status and type; inside a stream of Converse's
    ("ValidationException", 400, 400, "invalid_request_error", 400, "invalid_request_error", "validationException"),
    ("AccessDeniedException", 403, 403, "permission_error", 403, "permission_error", "validationException"),
    ("ResourceNotFoundException", 404, 404, "not_found_error", 404, "invalid_request_error", "validationException"),
    ("ModelTimeoutException", 408, 504, "timeout_error", 504, "server_error", "modelStreamErrorException"),
    ("ThrottlingException", 429, 429, "rate_limit_error", 429, "rate_limit_error", "throttlingException"),
    ("ServiceQuotaExceededException", 400, 429, "rate_limit_error", 429, "insufficient_quota", "throttlingException"),
    ("ModelNotReadyException", 429, 529, "overloaded_error", 503, "server_error", "serviceUnavailableException"),
    ("ModelErrorException", 424, 500, "api_error", 500, "server_error", "modelStreamErrorException"),
    ("ModelStreamErrorException", 424, 500, "api_error", 500, "server_error", "modelStreamErrorException"),
    ("InternalServerException", 500, 500, "api_error", 500, "server_error", "internalServerException"),
    ("ServiceUnavailableException", 503, 529, "overloaded_error", 503, "server_error", "serviceUnavailableException"),
    ("ConflictException", 400, 400, "invalid_request_error", 400, "invalid_request_error", "validationException"),
]
bedrocks = pytest.mark.parametrize(
    ("name", "status", "anthropics", "anthropics_type", "openais", "openais_type", "streamed"), BEDROCKS
)


def said(name):
    """Return the problem that the gateway reads in an error reply of Bedrock."""
    _, status, *_ = next(row for row in BEDROCKS if row[0] == name)
    head = Head(status, {"x-amzn-errortype": f"{name}:http://internal.amazon.com/coral/com.amazon.bedrock/"})
    return bedrock_converse.problem(head, json.dumps({"message": WORDS}).encode())


def rendered(flag, problem):
    status, headers, body = FLAGS[flag].error(problem)
    return status, headers, json.loads(body)


def ask(flag):
    return ClientRequest(
        flag, FLAGS[flag].dialects[0], "generate", "POST", "/", "", {}, Members(b'{"model":"m"}'), "m", True
    )


def failed(flag, problem):
    """Return the bytes with which a client's stream ends if the problem occurs in the middle of the stream."""
    return FLAGS[flag].encoder(ask(flag)).fail(problem)


def stream_failure(flag, data):
    """Return the problem that a decoder of the flag reads in the bytes of a stream."""
    target = Target("p", flag, "m", FLAGS[flag].dialects[0], Caps())
    decoder = FLAGS[flag].decoder(ask(flag), target, Head(200, {}))
    with pytest.raises(UpstreamFailed) as raised:
        list(decoder.feed(data))
    return raised.value.problem


def frame(data):
    (only,) = eventstream.Decoder().feed(data)
    return only


@bedrocks
def test_bedrocks_exceptions_reach_clients_of_anthropic_in_aws_words(
    name, status, anthropics, anthropics_type, openais, openais_type, streamed
):
    rendering = rendered("anthropic_messages", said(name))
    assert (rendering[0], rendering[2]) == (
        anthropics,
        {"type": "error", "error": {"type": anthropics_type, "message": WORDS}},
    )


@bedrocks
def test_bedrocks_exceptions_reach_clients_of_openai_in_aws_words(
    name, status, anthropics, anthropics_type, openais, openais_type, streamed
):
    rendering = rendered("openai_chat", said(name))
    assert (rendering[0], rendering[2]["error"]["type"], rendering[2]["error"]["message"]) == (
        openais,
        openais_type,
        WORDS,
    )


@bedrocks
def test_bedrocks_exceptions_stay_what_they_are_between_its_own_operations(
    name, status, anthropics, anthropics_type, openais, openais_type, streamed
):
    for flag in ("bedrock_converse", "bedrock_model_invoke"):
        rendering = rendered(flag, said(name))
        assert (rendering[0], rendering[1]["x-amzn-errortype"], rendering[2]) == (status, name, {"message": WORDS})


@bedrocks
def test_a_stream_of_converse_has_only_exceptions_that_its_clients_know(
    name, status, anthropics, anthropics_type, openais, openais_type, streamed
):
    rendering = frame(failed("bedrock_converse", said(name)))
    assert (rendering.headers[":exception-type"], json.loads(rendering.payload)) == (streamed, {"message": WORDS})


def test_a_stream_of_invoke_model_knows_a_timeout():
    rendering = frame(failed("bedrock_model_invoke", said("ModelTimeoutException")))
    assert rendering.headers[":exception-type"] == "modelTimeoutException"


@bedrocks
def test_a_stream_exception_reaches_clients_of_other_dialects(
    name, status, anthropics, anthropics_type, openais, openais_type, streamed
):
    """Check that an exception inside a provider's stream becomes an error event in the dialect of the client."""
    headers = {":exception-type": name[:1].lower() + name[1:], ":message-type": "exception"}
    problem = stream_failure("bedrock_converse", eventstream.encode(headers, json.dumps({"message": WORDS}).encode()))
    (event,) = sse.Decoder().feed(failed("anthropic_messages", problem))
    assert event.headers["event"] == "error"
    assert json.loads(event.payload)["error"] == {"type": anthropics_type, "message": WORDS}
    (event,) = sse.Decoder().feed(failed("openai_chat", problem))
    error = json.loads(event.payload)["error"]
    assert (error["type"], error["message"]) == (openais_type, WORDS)


ANTHROPICS = [
    # status, type; Bedrock's status and exception; inside a stream
    (400, "invalid_request_error", 400, "ValidationException", "validationException"),
    (401, "authentication_error", 403, "AccessDeniedException", "validationException"),
    (403, "permission_error", 403, "AccessDeniedException", "validationException"),
    (404, "not_found_error", 404, "ResourceNotFoundException", "validationException"),
    (413, "request_too_large", 413, "ValidationException", "validationException"),
    (429, "rate_limit_error", 429, "ThrottlingException", "throttlingException"),
    (500, "api_error", 500, "InternalServerException", "internalServerException"),
    (504, "timeout_error", 408, "ModelTimeoutException", "modelStreamErrorException"),
    (529, "overloaded_error", 503, "ServiceUnavailableException", "serviceUnavailableException"),
]


@pytest.mark.parametrize(("status", "kind", "bedrocks_status", "exception", "streamed"), ANTHROPICS)
def test_anthropics_errors_are_exceptions_to_clients_of_bedrock(status, kind, bedrocks_status, exception, streamed):
    body = json.dumps({"type": "error", "error": {"type": kind, "message": WORDS}}).encode()
    problem = FLAGS["anthropic_messages"].problem(Head(status, {}), body)
    for flag in ("bedrock_converse", "bedrock_model_invoke"):
        rendering = rendered(flag, problem)
        assert (rendering[0], rendering[1]["x-amzn-errortype"], rendering[2]) == (
            bedrocks_status,
            exception,
            {"message": WORDS},
        )
    problem = stream_failure("anthropic_messages", sse.encode(body, "error"))
    rendering = frame(failed("bedrock_converse", problem))
    assert (rendering.headers[":exception-type"], json.loads(rendering.payload)) == (streamed, {"message": WORDS})


OPENAIS = [
    (400, "invalid_request_error", "context_length_exceeded", 400, "ValidationException"),
    (401, "invalid_request_error", "invalid_api_key", 403, "AccessDeniedException"),
    (403, "permission_error", None, 403, "AccessDeniedException"),
    (404, "invalid_request_error", "model_not_found", 404, "ResourceNotFoundException"),
    (429, "requests", "rate_limit_exceeded", 429, "ThrottlingException"),
    (429, "insufficient_quota", "insufficient_quota", 429, "ThrottlingException"),
    (500, "server_error", None, 500, "InternalServerException"),
    (503, "server_error", None, 503, "ServiceUnavailableException"),
    (504, "server_error", "timeout", 408, "ModelTimeoutException"),
]


@pytest.mark.parametrize(("status", "kind", "code", "bedrocks_status", "exception"), OPENAIS)
def test_openais_errors_are_exceptions_to_clients_of_bedrock(status, kind, code, bedrocks_status, exception):
    body = json.dumps({"error": {"message": WORDS, "type": kind, "param": None, "code": code}}).encode()
    rendering = rendered("bedrock_converse", FLAGS["openai_chat"].problem(Head(status, {}), body))
    assert (rendering[0], rendering[1]["x-amzn-errortype"], rendering[2]) == (
        bedrocks_status,
        exception,
        {"message": WORDS},
    )


@pytest.mark.parametrize(
    ("error", "exception"),
    [
        ({"type": "server_error", "code": None}, "internalServerException"),
        ({"type": "requests", "code": "rate_limit_exceeded"}, "throttlingException"),
        ({"type": "insufficient_quota"}, "throttlingException"),
        ({"type": "invalid_request_error", "code": "context_length_exceeded"}, "validationException"),
        ({"code": 429}, "throttlingException"),
        ({"code": 503}, "serviceUnavailableException"),
        ({"code": 7}, "internalServerException"),
    ],
)
def test_an_error_inside_openais_stream_is_told_by_its_code(error, exception):
    problem = stream_failure("openai_chat", sse.encode(json.dumps({"error": {**error, "message": WORDS}}).encode()))
    rendering = frame(failed("bedrock_converse", problem))
    assert (rendering.headers[":exception-type"], json.loads(rendering.payload)) == (exception, {"message": WORDS})


def test_an_error_without_a_message_says_so():
    problem = stream_failure("openai_chat", sse.encode(b'{"error": {"code": "timeout"}}'))
    assert (problem.code, problem.message) == (errors.TIMEOUT, "the provider failed without a message")


@pytest.mark.parametrize("body", [{"Message": WORDS}, {"__type": "ThrottlingException", "message": WORDS}])
def test_aws_other_spellings_of_an_error_keep_their_words(body):
    problem = bedrock_converse.problem(Head(429, {}), json.dumps(body).encode())
    assert (problem.code, problem.message) == (errors.RATE_LIMIT, WORDS)


def test_an_operation_that_bedrock_does_not_know_is_an_error_under_a_200():
    body = b'{"Output":{"__type":"com.amazon.coral.service#UnknownOperationException"},"Version":"1.0"}'
    problem = bedrock_converse.problem(Head(200, {}), body)
    assert rendered("anthropic_messages", problem)[0] == 404
    assert rendered("openai_chat", problem)[0] == 404


@pytest.mark.parametrize("code", list(errors.STATUS))
def test_every_code_of_ours_has_an_exception_in_both_kinds_of_stream(code):
    problem = Problem(code, WORDS)
    assert rendered("bedrock_converse", problem)[2] == {"message": WORDS}
    for flag in ("bedrock_converse", "bedrock_model_invoke"):
        assert frame(failed(flag, problem)).headers[":exception-type"].endswith("Exception")
