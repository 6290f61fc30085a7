"""Tests of betas: which betas each API (envelope) accepts, what the options of a provider change, and which beta each
retry leaves out.
"""

import json
from dataclasses import replace

import pytest

from gateway.contract.capabilities import capabilities
from gateway.contract.errors import INVALID_REQUEST, Problem
from gateway.contract.flag import ClientRequest, Members, Target
from gateway_plugins import anthropic_messages, bedrock_converse, bedrock_model_invoke
from gateway_plugins.dialects.anthropic_messages import betas as messages_betas

CLAUDE = capabilities("us.anthropic.claude-sonnet-4-5-20250929-v1:0")
MESSAGES = [{"role": "user", "content": "hi"}]
UNKNOWN_TO_BEDROCK = Problem(INVALID_REQUEST, "invalid beta flag", "ValidationException", 400)
UNKNOWN_TO_ANTHROPIC = Problem(
    INVALID_REQUEST, "Unexpected value(s) `b-1` for the `anthropic-beta` header.", "invalid_request_error", 400
)


def ask(body, client, dialect="anthropic_messages", **headers):
    top = Members(json.dumps(body).encode())
    return ClientRequest(client, dialect, "generate", "POST", "/", "", headers, top, "m", False)


def target(flag, **options):
    name = flag.__name__.rpartition(".")[2]
    return Target("p", name, "m", flag.dialects[0], CLAUDE, flag.Options(**options))


def taken(envelope, *names, **options):
    dropped = []
    return messages_betas.select_betas(names, envelope, messages_betas.BetaOptions(**options), dropped.append), dropped


@pytest.mark.parametrize(
    ("envelope", "expected"),
    [
        ("messages", ["context-1m-2025-08-07", "claude-code-20250219", "advanced-tool-use-2025-11-20"]),
        ("mantle", ["context-1m-2025-08-07", "claude-code-20250219", "tool-search-tool-2025-10-19", "tool-examples-2025-10-29"]),
        ("invoke", ["context-1m-2025-08-07", "tool-search-tool-2025-10-19", "tool-examples-2025-10-29"]),
        ("converse", ["context-1m-2025-08-07"]),
    ],
)  # fmt: skip
def test_each_envelope_takes_its_own_betas_by_its_own_names(envelope, expected):
    """Check that each API with Messages bodies (envelope) gets only betas that it accepts, renamed if the API has
    another name for a beta.
    """
    names = ("context-1m-2025-08-07", "claude-code-20250219", "advanced-tool-use-2025-11-20")
    assert taken(envelope, *names)[0] == expected


def test_configured_betas_precede_the_data_and_drops_precede_all():
    """Check that the configured `allow_betas` override `betas.json`, and that `drop_betas` override both."""
    names = ("context-1m-2025-08-07", "new-thing-2027-01-01", "web-search-2025-03-05")
    betas, dropped = taken("invoke", *names, allow_betas=["new-*", "web-*"], drop_betas=["context-*", "web-*"])
    assert betas == ["new-thing-2027-01-01"]
    assert dropped == ["/anthropic-beta/context-1m-2025-08-07", "/anthropic-beta/web-search-2025-03-05"]


@pytest.mark.parametrize("header", ["a-1,b-2", "a-1, b-2", '["a-1", "b-2"]', "a-1,a-1, b-2"])
def test_a_header_is_read_in_every_form_that_clients_send(header):
    assert messages_betas.header_betas({"anthropic-beta": header}) == ["a-1", "b-2"]


def test_a_native_invoke_body_loses_only_what_the_configuration_drops():
    body = {"anthropic_version": "bedrock-2023-05-31", "anthropic_beta": ["a-1", "b-1"]}
    the_ask = ask(body, "bedrock_model_invoke", **{"anthropic-beta": "c-1"})
    dropped = []
    send = bedrock_model_invoke.build(the_ask, target(bedrock_model_invoke, drop_betas=["a-*"]), dropped.append)
    assert (json.loads(send.body)["anthropic_beta"], dropped) == (["b-1"], ["/anthropic-beta/a-1"])
    assert (
        bedrock_model_invoke.build(the_ask, target(bedrock_model_invoke, allow_betas=["x"]), print).body
        == the_ask.top.body
    )


def test_a_dropped_beta_goes_even_where_it_was_the_only_one():
    """Check that a beta that the configuration drops is removed even if it is the only one."""
    the_ask = ask({"max_tokens": 1, "messages": MESSAGES, "anthropic_beta": ["a-1"]}, "anthropic_messages")
    dropped = []
    send = bedrock_model_invoke.build(the_ask, target(bedrock_model_invoke, drop_betas=["a-*"]), dropped.append)
    assert ("anthropic_beta" in json.loads(send.body), dropped) == (False, ["/anthropic-beta/a-1"])


def test_bedrocks_messages_api_gets_only_the_betas_that_it_takes():
    header = {"anthropic-beta": "claude-code-20250219,prompt-caching-scope-2026-01-05"}
    the_ask = ask({"model": "m", "messages": MESSAGES}, "anthropic_messages", **header)
    dropped = []
    send = anthropic_messages.build(the_ask, target(anthropic_messages, envelope="mantle"), dropped.append)
    assert send.headers["anthropic-beta"] == "claude-code-20250219"
    assert dropped == ["/anthropic-beta/prompt-caching-scope-2026-01-05"]
    send = anthropic_messages.build(the_ask, target(anthropic_messages), pytest.fail)
    assert send.headers["anthropic-beta"] == "claude-code-20250219,prompt-caching-scope-2026-01-05"


@pytest.mark.parametrize(
    "host",
    [
        "bedrock-runtime.us-east-1.amazonaws.com", "bedrock-runtime.cn-north-1.amazonaws.com.cn",
        "bedrock-runtime.eusc-de-east-1.amazonaws.eu", "bedrock-mantle.us-east-1.api.aws",
        "bedrock-mantle.eusc-de-east-1.api.amazonwebservices.eu",
    ],
)  # fmt: skip
def test_every_host_of_aws_gets_the_betas_of_bedrock(host):
    header = {"anthropic-beta": "claude-code-20250219,prompt-caching-scope-2026-01-05"}
    the_ask = ask({"model": "m", "messages": MESSAGES}, "anthropic_messages", **header)
    send = anthropic_messages.build(the_ask, replace(target(anthropic_messages), host=host), lambda _: None)
    assert send.headers["anthropic-beta"] == "claude-code-20250219"


@pytest.mark.parametrize("client", ["anthropic_messages", "bedrock_model_invoke"])
def test_an_invalid_beta_flag_retries_without_the_least_certain_beta(client):
    """Check that after an error that names no beta, each retry leaves out one more beta and the fields that need it.

    The beta that is least likely to be accepted is left out first.
    """
    tool = {"name": "f", "input_schema": {"type": "object"}, "eager_input_streaming": True}
    body = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 5, "messages": MESSAGES, "tools": [tool]}
    eager = ["fine-grained-tool-streaming-2025-05-14"]
    the_ask = ask({**body, "anthropic_beta": ["a-1", *eager]}, client, **{"anthropic-beta": "effort-2025-11-24"})
    aim = target(bedrock_model_invoke)
    expected = [["a-1", *eager], eager, []]
    if client == "anthropic_messages":  # a Bedrock client's header is never sent
        expected = [["a-1", *eager, "effort-2025-11-24"], [*eager, "effort-2025-11-24"], eager, []]
    for betas in expected:
        dropped = []
        sent = json.loads(bedrock_model_invoke.build(the_ask, aim, dropped.append).body)
        assert sent.get("anthropic_beta", []) == betas
        assert ("eager_input_streaming" in sent["tools"][0]) is bool(betas)
        assert ("/tools/0/eager_input_streaming" in dropped) is not bool(betas)
        assert ("/anthropic-beta/a-1" in dropped) is ("a-1" not in betas)
        the_ask = bedrock_model_invoke.retry(the_ask, aim, UNKNOWN_TO_BEDROCK, pytest.fail)
    assert the_ask is None


def test_a_beta_refused_by_anthropic_by_name_is_left_out_alone():
    """Check that a retry leaves out only the beta that the error message names."""
    the_ask = ask({"model": "m", "messages": MESSAGES}, "anthropic_messages", **{"anthropic-beta": "b-1,c-2027-01-01"})
    dropped = []
    aim = target(anthropic_messages)
    again = anthropic_messages.retry(the_ask, aim, UNKNOWN_TO_ANTHROPIC, pytest.fail)
    assert anthropic_messages.build(again, aim, dropped.append).headers["anthropic-beta"] == "c-2027-01-01"
    assert dropped == ["/anthropic-beta/b-1"]


def test_an_invalid_beta_flag_retries_converse_without_it():
    """Check that after an error about a beta, a Converse request is retried once, without the beta."""
    body = {"messages": [], "additionalModelRequestFields": {"anthropic_beta": ["b-1"], "top_k": 5}}
    dropped = []
    the_ask = ask(body, "bedrock_converse", "bedrock_converse")
    again = bedrock_converse.retry(the_ask, target(bedrock_converse), UNKNOWN_TO_BEDROCK, pytest.fail)
    sent = bedrock_converse.build(again, target(bedrock_converse), dropped.append)
    assert json.loads(sent.body) == {"messages": [], "additionalModelRequestFields": {"top_k": 5}}
    assert dropped == ["/anthropic-beta/b-1"]


@pytest.mark.parametrize("flag", [anthropic_messages, bedrock_model_invoke, bedrock_converse])
def test_only_a_refused_beta_is_retried(flag):
    """Check that a refused request is not retried if it has no betas, or if the error is not about a beta."""
    plain = ask({"messages": MESSAGES, "max_tokens": 1}, flag.__name__.rpartition(".")[2], flag.dialects[0])
    assert flag.retry(plain, target(flag), UNKNOWN_TO_BEDROCK, pytest.fail) is None
    other = Problem(INVALID_REQUEST, "max_tokens: Field required")
    betaed = ask({"messages": MESSAGES, "anthropic_beta": ["a"]}, "anthropic_messages", flag.dialects[0])
    assert flag.retry(betaed, target(flag), other, pytest.fail) is None


def test_every_envelope_of_the_data_names_its_source():
    data = messages_betas._data()
    assert set(data["envelopes"]) == {"messages", "invoke", "converse", "mantle"}
    for part in (*data["envelopes"].values(), data["features"], data["refusals"]):
        assert part["source"]
