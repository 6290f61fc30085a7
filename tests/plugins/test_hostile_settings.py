"""Tests of settings with values of any type and size. Each is sent to the provider, or refused by an error that names
the field.
"""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.contract.capabilities import capabilities
from gateway.contract.errors import INVALID_REQUEST, Refused
from gateway.contract.flag import ClientRequest, Members, Target
from gateway_plugins import anthropic_messages, bedrock_converse, bedrock_model_invoke
from gateway_plugins.dialects.anthropic_messages import beta_members
from gateway_plugins.shared.members_in_place import EditedMembers
from gateway_plugins.shared.thinking_members import MEMBERS, read_thinking
from tests.helpers.conversion import CONVERSIONS

JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "none", "high", "enabled", "disabled", "adaptive", "between_tools", "any", "tool", "x" * 500]),
    lambda inner: st.lists(inner, max_size=2)
    | st.dictionaries(
        st.sampled_from(["type", "budget_tokens", "display", "effort", "enabled", "max_tokens", "thinking", "name", "edits"]),
        inner,
        max_size=3,
    ),
    max_leaves=6,
)  # fmt: skip
USER = {"role": "user", "content": "x"}
MODELS = [
    "anthropic.claude-opus-5",
    "anthropic.claude-opus-5-5",
    "us.anthropic.claude-haiku-4-5-20251001-v1:0",
    "unknown",
]
many = settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@many
@given(values=st.dictionaries(st.sampled_from(sorted(MEMBERS)), JUNK, max_size=4), effort=JUNK)
def test_any_members_about_thinking_are_read_or_refused_by_name(values, effort):
    problem = request = None
    try:
        request = read_thinking(values, "/x", [].append, efforts={"/x/effort": effort})
    except Refused as refused:
        problem = refused.problem
    if request is None:
        assert problem.code == INVALID_REQUEST
        assert problem.param
    else:
        assert request.is_off or request.is_wanted or not request.pointers


@many
@given(
    members=st.dictionaries(
        st.sampled_from(["thinking", "output_config", "tool_choice", "stop_sequences", "tools", "context_management", "top_k"]),
        JUNK,
        max_size=4,
    ),
    messages=JUNK | st.just([USER]),
    model=st.sampled_from(MODELS),
)  # fmt: skip
def test_any_members_that_stay_in_their_dialect_end_in_a_body_or_a_name(members, messages, model):
    body = {"max_tokens": 50, "messages": messages, **members}
    for name in ("anthropic_messages__bedrock_model_invoke", "bedrock_model_invoke__anthropic_messages"):
        problem = call = None
        try:
            call = CONVERSIONS[name].call(body, caps=capabilities(model))
        except Refused as refused:
            problem = refused.problem
        if call is None:
            assert problem.code == INVALID_REQUEST
        else:
            json.loads(call.upstream_request.body)


@many
@given(
    body=st.dictionaries(
        st.sampled_from(["tools", "messages", "thinking", "context_management", "safeguards", "tool_choice"]),
        JUNK
        | st.lists(
            st.dictionaries(
                st.sampled_from(["type", "role", "content", "defer_loading", "input_examples", "name"]),
                st.sampled_from(["tool_reference", "tool_search_tool_regex", "server_tool_use", 7, None, True])
                | st.lists(st.just({"type": "tool_reference"}) | st.just("tool_reference"), max_size=2),
            ),
            max_size=3,
        ),
    )
)
def test_members_of_a_beta_are_taken_out_of_any_body(body):
    betas = {feature.beta for feature in beta_members.features()}
    edited = EditedMembers(Members(json.dumps(body).encode()))
    beta_members.remove(edited, betas, (), [].append)
    top = Members(edited.top.spliced(edited.changes()))
    for feature in beta_members.features():
        if not feature.essential:
            assert list(beta_members._members(EditedMembers(top), feature)) == []


@pytest.mark.parametrize("flag", [anthropic_messages, bedrock_model_invoke, bedrock_converse])
@pytest.mark.parametrize("without", [("x" * 10_000,), ("effort-2025-11-24",), ("",)])
def test_names_of_features_that_nobody_knows_change_nothing(flag, without):
    dialect = flag.dialects[0]
    top = Members(json.dumps({"model": "m", "max_tokens": 50, "messages": [USER]}).encode())
    name = flag.__name__.rpartition(".")[2]
    request = ClientRequest(name, dialect, "generate", "POST", "/", "", {}, top, "m", False, without)
    target = Target("p", name, "m", dialect, capabilities(MODELS[0]))
    assert flag.build(request, target, pytest.fail).body == top.body
