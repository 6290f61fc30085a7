"""Tests of random Converse requests that are generated from botocore's service model.

Each request is converted to a valid request of the provider, or refused by an error that names a field.
"""

from __future__ import annotations

from functools import cache

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from gateway.contract.errors import Refused
from tests.helpers.converse_to import CHAT, FORMAT, MESSAGES, PDF, SCHEMA, blob
from tests.helpers.samples import PNG

CONVERSIONS = {"messages": MESSAGES, "chat": CHAT}
TOP = (
    "messages", "system", "inferenceConfig", "toolConfig", "additionalModelResponseFieldPaths", "requestMetadata",
    "performanceConfig", "serviceTier",
)  # fmt: skip
WORDS = st.sampled_from(["Hi", "and more", "Grüße", " ", ""])
FIXED = {
    # values that only make sense as they are
    "json": st.just(SCHEMA),
    "input": st.just({"a": 1}),
    "toolUseId": st.sampled_from(["a", "b.c:d", "x" * 64]),
    "name": st.sampled_from(["look", "find"]),
    "url": st.just("https://example.com"),
    "jsonSchema": st.just(FORMAT["textFormat"]["structure"]["jsonSchema"]),
}
BYTES = {"ImageSource": PNG, "DocumentSource": PDF, "GuardrailConverseImageSource": PNG}

UNDRAWN = {"s3Location", "toolAddition", "toolRemoval", "reasoningContent"}
"""Kinds of blocks that the tests do not generate.

- `s3Location` is always refused.
- `toolAddition` and `toolRemoval` belong to a beta that the simulated provider does not know.
- `reasoningContent` is valid only at some places of a turn, which botocore's service model does not describe."""


@cache
def service():
    return ServiceModel(Loader().load_service_model("bedrock-runtime", "service-2"))


@st.composite
def drawn(draw, shape, *, owner=""):
    """Draw a value that is valid for a type of botocore's service model (`shape`)."""
    kind = shape.type_name
    if kind == "structure":
        return draw(structures(shape))
    if kind == "list":
        return draw(st.lists(drawn(shape.member), min_size=shape.metadata.get("min", 0), max_size=3))
    if kind == "map":
        return {"team": "a"}
    if kind == "blob":
        return BYTES.get(owner, blob("bytes"))
    if kind == "string":
        return draw(st.sampled_from(shape.enum) if shape.enum else WORDS)
    return draw({"integer": st.integers(1, 9), "float": st.sampled_from([0, 0.5, 1]), "boolean": st.booleans()}[kind])


@st.composite
def structures(draw, shape):
    members = list(shape.members)
    if shape.is_tagged_union:
        chosen = [draw(st.sampled_from([name for name in members if name not in UNDRAWN]))]
    else:
        chosen = [name for name in members if name in shape.required_members or draw(st.booleans())]
    shapes = {}
    for name in chosen:
        member = shape.members[name]
        scalar = member.type_name in {"string", "blob", "structure"}
        shapes[name] = draw(FIXED[name] if name in FIXED and scalar else drawn(member, owner=shape.name))
    return shapes


@st.composite
def requests(draw):
    shape = service().shape_for("ConverseStreamRequest")
    request = {name: draw(drawn(shape.members[name])) for name in TOP if name == "messages" or draw(st.booleans())}
    named = [tool["toolSpec"]["name"] for tool in request.get("toolConfig", {}).get("tools", ()) if "toolSpec" in tool]
    assume(len(named) == len(set(named)))  # Converse refuses two of a name as well
    return request


@pytest.mark.parametrize("conversion", CONVERSIONS)
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(body=requests(), stream=st.booleans())
def test_a_request_of_the_service_model_is_carried_or_refused(conversion, body, stream):
    try:
        CONVERSIONS[conversion].open(body, stream=stream)
    except Refused as refused:
        param = refused.problem.param
    else:
        param = "none"
    assert param
