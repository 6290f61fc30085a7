"""Tests that a response to any request of a Responses client conforms to Open Responses and to OpenAI's types.

A response repeats the settings of its request.
"""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai.types.responses import Response
from pydantic import TypeAdapter

from gateway.contract.errors import Refused
from tests.golden import files as golden
from tests.helpers.conversion import CONVERSIONS
from tests.helpers.open_responses import conforms
from tests.laws.drawn_requests import requests

DIALECT = "openai_responses"
TO_OTHERS = [conversion for conversion in CONVERSIONS.values() if conversion.dialect == DIALECT]
REQUESTS = list(golden.requests(DIALECT).values())
ADAPTER = TypeAdapter(Response)


@pytest.mark.parametrize("conversion", TO_OTHERS, ids=lambda conversion: conversion.name)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_a_response_to_any_request_conforms(conversion, data):
    body = data.draw(requests(DIALECT, REQUESTS))
    try:
        call = conversion.call(body)
    except Refused:
        return
    reply, _ = golden.reply(conversion.upstream, "text")
    response = call.whole(reply)
    conforms(response)
    plain = response | {"tools": [], "tool_choice": "auto", "instructions": None, "text": {"format": {"type": "text"}}}
    ADAPTER.validate_json(json.dumps(plain), strict=True)
    in_force = {name for name in body if f"/{name}" in call.dropped}
    assert not {
        name for name in in_force if name in response and response[name] == body[name] and body[name] not in USUAL
    }


USUAL = (None, 0, 1, True, False, "auto", "default", "disabled", {}, [])
"""Values of settings that are often defaults. A response with such a value may not have copied it from the request, so
the test does not compare it."""
