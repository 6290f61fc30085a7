"""Tests of defects 47 and 62 of other gateways, about betas and guardrails, on every translation between dialects."""

import json

import pytest

from tests.defects.conversions import conversions
from tests.helpers.wires import line, wires

BETAS = "claude-code-20250219,interleaved-thinking-2025-05-14,effort-2025-11-24"
GUARDRAIL = {"guardrailIdentifier": "g", "guardrailVersion": "2", "trace": "enabled"}


@conversions(clients=("anthropic_messages",))
def test_defect_47_unknown_betas_stay_out_of_the_body(conversion):
    """Check that betas in the client's header are not copied into the body if Bedrock does not know them."""
    sent = conversion.sent(conversion.say.user(conversion.say.text("Hi")), headers={"anthropic-beta": BETAS})
    assert "claude-code" not in json.dumps(sent.body)
    assert "interleaved" not in json.dumps(sent.body)


@pytest.mark.parametrize("beta", ["claude-code-20250219", "made-up-2030-01-01"])
@wires(clients=("anthropic_messages", "bedrock_model_invoke"), providers=("bedrock_model_invoke", "bedrock_converse"))
async def test_defect_47_a_headers_beta_that_bedrock_refuses_costs_no_call(wire, beta, tmp_path):
    async with line(wire, tmp_path) as opened:
        hello = wire.say.body(wire.say.user(wire.say.text("Hi")))
        if "model" in hello:
            hello["model"] = wire.model
        path = wire.say.path(wire.model, stream=False)
        reply = await opened.gw.post(path, hello, headers={"anthropic-beta": beta})
        assert reply.status == 200, reply.body
        assert beta not in opened.simulated.requests[-1].body.decode()


@wires(clients=("bedrock_converse",), providers=("bedrock_model_invoke", "bedrock_converse"))
async def test_defect_62_a_guardrail_goes_along_wherever_bedrock_answers(wire, tmp_path):
    async with line(wire, tmp_path) as opened:
        hello = wire.say.body(wire.say.user(wire.say.text("Hi")), guardrailConfig=GUARDRAIL)
        reply = await opened.post(hello, stream=False)
        assert reply.status == 200, reply.body
        (seen,) = opened.simulated.requests
    if wire.provider == "bedrock_converse":
        assert seen.json["guardrailConfig"] == GUARDRAIL
    else:
        assert seen.headers["x-amzn-bedrock-guardrailidentifier"] == "g"
        assert seen.headers["x-amzn-bedrock-guardrailversion"] == "2"
        assert seen.headers["x-amzn-bedrock-trace"] == "ENABLED"


@wires(clients=("bedrock_converse",), providers=("anthropic_messages", "openai_chat"))
async def test_defect_62_where_nobody_guards_a_wished_guardrail_is_a_400(wire, tmp_path):
    async with line(wire, tmp_path) as opened:
        hello = wire.say.body(wire.say.user(wire.say.text("Hi")), guardrailConfig=GUARDRAIL)
        reply = await opened.post(hello, stream=False)
        assert (reply.status, b"guardrail" in reply.body) == (400, True)
        assert opened.simulated.requests == []
