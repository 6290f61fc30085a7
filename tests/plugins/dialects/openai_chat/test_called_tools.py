"""Tests that the record of a native Chat call has the names of the called tools, for every form in which Chat reports a
call.
"""

import pytest

from tests.helpers.conversion import ALL_CONVERSIONS, BASES, encoded

NATIVE = ALL_CONVERSIONS["openai_chat__openai_chat"]
FUNCTION = {"id": "a", "type": "function", "function": {"name": "look", "arguments": "{}"}}
CUSTOM = {"id": "b", "type": "custom", "custom": {"name": "patch", "input": "+1"}}
CALLS = {
    "functions and custom tools": ({"tool_calls": [FUNCTION, CUSTOM]}, ["look", "patch"]),
    "the old form": ({"function_call": {"name": "look", "arguments": "{}"}}, ["look"]),
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("said", "names"), CALLS.values(), ids=CALLS)
def test_every_form_of_a_call_names_its_tool(said, names, stream):
    call = NATIVE.call(BASES["openai_chat"], stream=stream)
    if stream:
        numbered = [{"index": index, **each} for index, each in enumerate(said.get("tool_calls", ()))]
        first = {**said, "tool_calls": numbered} if numbered else said
        deltas = [first, {"function_call": {"arguments": " "}} if "function_call" in said else {}]
        choices = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
        ends = [*choices, {"index": 0, "delta": {}, "finish_reason": "tool_calls"}]
        chunks = [("chat.completion.chunk", {"id": "c", "choices": [choice]}) for choice in ends]
        call.streamed(encoded(NATIVE.provider, "openai_chat", chunks))
    else:
        message = {"role": "assistant", "content": None, **said}
        call.whole({"id": "c", "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]})
    assert call.meter.facts().tools == names
