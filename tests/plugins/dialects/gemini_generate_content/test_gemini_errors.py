"""Tests of errors in Google's form: errors in Google's replies, and the gateway's errors as Google's clients read
them.
"""

import json

import pytest

from gateway.contract import errors
from gateway.contract.errors import Problem
from gateway.contract.flag import Head
from gateway_plugins.dialects.gemini_generate_content import errors as gemini_errors

TYPES = "type.googleapis.com/google.rpc."
RETRY = {"@type": f"{TYPES}RetryInfo", "retryDelay": "34.074824224s"}
QUOTA = {"@type": f"{TYPES}QuotaFailure", "violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel"}]}


def body_of(code, status, *details, message="Just so."):
    return {"error": {"code": code, "message": message, "status": status, "details": list(details)}}


def read(status, body, **headers):
    return gemini_errors.problem_for(Head(status, headers), json.dumps(body).encode())


@pytest.mark.parametrize("form", [lambda body: body, lambda body: [body]], ids=["object", "list"])
@pytest.mark.parametrize(
    ("status", "name", "code", "retryable"),
    [
        (400, "INVALID_ARGUMENT", errors.INVALID_REQUEST, False),
        (400, "FAILED_PRECONDITION", errors.INVALID_REQUEST, False),
        (401, "UNAUTHENTICATED", errors.PERMISSION, False),
        (403, "PERMISSION_DENIED", errors.PERMISSION, False),
        (404, "NOT_FOUND", errors.NOT_FOUND, False),
        (429, "RESOURCE_EXHAUSTED", errors.RATE_LIMIT, True),
        (499, "CANCELLED", errors.UPSTREAM, True),
        (500, "INTERNAL", errors.INTERNAL, True),
        (503, "UNAVAILABLE", errors.OVERLOADED, True),
        (504, "DEADLINE_EXCEEDED", errors.TIMEOUT, True),
        (418, "NEW_STATUS", errors.INVALID_REQUEST, False),
    ],
)
def test_a_status_of_google_is_a_kind_of_problem_and_comes_back_as_it_was(form, status, name, code, retryable):
    problem = read(status, form(body_of(status, name)))
    assert (problem.code, problem.native, problem.status, problem.retryable) == (code, name, status, retryable)
    assert problem.message == "Just so."
    # a client must not take the refusal of the gateway's key for that of its own, and a new name is unknown
    if name not in {"NEW_STATUS", "UNAUTHENTICATED"}:
        shown, _, body = gemini_errors.error(problem)
        assert (shown, json.loads(body)["error"]["status"]) == (status, name)


def test_the_wait_is_in_the_details_and_a_header_takes_precedence():
    body = body_of(429, "RESOURCE_EXHAUSTED", QUOTA, RETRY)
    assert read(429, body).retry_after == pytest.approx(34.074824224)
    assert read(429, body, **{"retry-after": "7"}).retry_after == 7
    shown = json.loads(gemini_errors.error(read(429, body))[2])["error"]
    assert shown["details"] == [{"@type": f"{TYPES}RetryInfo", "retryDelay": "34.0748s"}]


@pytest.mark.parametrize("delay", ["", "s", "-1s", "1e99s", "9" * 40 + "s", 34, None, "1m"])
def test_a_wait_that_is_none_is_ignored(delay):
    assert read(429, body_of(429, "RESOURCE_EXHAUSTED", {**RETRY, "retryDelay": delay})).retry_after is None


@pytest.mark.parametrize("reason", ["API_KEY_INVALID", "API_KEY_EXPIRED", "ACCESS_TOKEN_EXPIRED"])
def test_a_key_that_is_refused_with_400_is_no_wrong_request(reason):
    problem = read(400, body_of(400, "INVALID_ARGUMENT", {"reason": reason}))
    assert (problem.code, problem.key_refused) == (errors.PERMISSION, True)


@pytest.mark.parametrize(
    "body", [{}, [], [[]], None, 1, "x", {"error": None}, {"error": []}, {"error": {"details": 1, "status": 5}}]
)
def test_an_odd_body_is_a_problem_with_a_message(body):
    problem = read(500, body)
    assert (problem.code, problem.status) == (errors.INTERNAL, 500)
    assert problem.message


def test_a_wrong_field_is_named_in_the_details():
    problem = Problem(errors.INVALID_REQUEST, "must be text", param="contents[0].role")
    status, headers, body = gemini_errors.error(problem)
    violation = {"field": "contents[0].role", "description": "must be text"}
    assert (status, headers["content-type"]) == (400, "application/json")
    assert json.loads(body) == {
        "error": {
            "code": 400,
            "message": "must be text",
            "status": "INVALID_ARGUMENT",
            "details": [{"@type": f"{TYPES}BadRequest", "fieldViolations": [violation]}],
        }
    }


@pytest.mark.parametrize("code", errors.STATUS)
def test_every_error_of_the_gateway_has_a_status_of_google(code):
    status, _, body = gemini_errors.error(Problem(code, "m", native="overloaded_error", status=529))
    shown = json.loads(body)["error"]
    assert shown["code"] == status
    assert shown["status"].isupper()
