"""Tests of the end of a streamed reply: the writer writes the end once, even if the provider sends the end twice."""

import pytest

from gateway.contract.flag import Usage
from gateway_plugins.dialects.anthropic_messages import emit as messages_emit
from gateway_plugins.dialects.bedrock_converse import emit as converse_emit
from gateway_plugins.dialects.gemini_generate_content import emit as gemini_emit
from gateway_plugins.dialects.openai_chat import emit as chat_emit
from gateway_plugins.dialects.openai_responses import emit as responses_emit
from gateway_plugins.shared import reply_events
from gateway_plugins.shared.reply_events import Stop
from tests.helpers.responses_to import ask

STREAMS = {
    "messages": lambda: messages_emit.Stream("m"),
    "converse": lambda: converse_emit.Stream(converse_emit.ReplyOptions()),
    "chat": lambda: chat_emit.Stream("m", print, include_usage=True),
    "gemini": lambda: gemini_emit.Stream("m", print, gemini_emit.ReplyOptions()),
    "responses": lambda: responses_emit.Stream(ask({}), {}, print),
}
END = Stop(reply_events.END_TURN)
FIRST, SECOND = Usage(input=3, output=4), Usage(input=5, output=6)


def written(stream, *calls):
    """Call the methods of a streamed reply's writer, and close it. Return all events that it has written."""
    events = []
    for method, *values in calls:
        getattr(stream, method)(*values)
        events += stream.take()
    stream.close()
    events += stream.take()
    stream.close()
    return events + stream.take()


def ends(dialect, events):
    """Return a label for each event that has the stop reason or the usage of a reply, in order.

    The label is the event's type. In a dialect without event types, it is a name such as `usage`.
    """
    match dialect:
        case "messages":
            return [event.kind for event in events if event.kind in {"message_delta", "message_stop"}]
        case "converse":
            return [event.kind for event in events if event.kind in {"messageStop", "metadata"}]
        case "gemini":
            return [name for event in events for name in ("finishReason", "usageMetadata") if name in str(event.data)]
        case "chat":
            reasons = ["reason" for event in events for choice in event.data["choices"] if choice["finish_reason"]]
            return reasons + ["usage" for event in events if event.data["usage"]]
        case _:
            return [event.kind for event in events if event.kind == "response.completed"]


EXPECTED = {
    "messages": ["message_delta", "message_stop"],
    "converse": ["messageStop", "metadata"],
    "chat": ["reason", "usage"],
    "gemini": ["finishReason", "usageMetadata"],
    "responses": ["response.completed"],
}
BEGIN = [("start", "r"), ("text", "a"), ("block_end",)]
ORDERS = {
    "ends twice": [("finish", END), ("finish", END), ("usage", FIRST)],
    "ends again behind the counts": [("finish", END), ("usage", FIRST), ("finish", END)],
    "counts twice": [("finish", END), ("usage", FIRST), ("usage", SECOND)],
    "counts before and behind": [("usage", FIRST), ("finish", END), ("usage", SECOND)],
    "says all twice": [("finish", END), ("usage", FIRST), ("finish", END), ("usage", SECOND)],
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dialect", STREAMS)
def test_a_reply_ends_once_whatever_a_provider_says_twice(dialect, order):
    assert ends(dialect, written(STREAMS[dialect](), *BEGIN, *ORDERS[order])) == EXPECTED[dialect]


@pytest.mark.parametrize("dialect", ["messages", "converse", "responses"])
def test_a_reply_that_nobody_counts_ends_with_its_stream(dialect):
    assert ends(dialect, written(STREAMS[dialect](), *BEGIN, ("finish", END))) == EXPECTED[dialect]


@pytest.mark.parametrize("dialect", ["converse", "chat", "responses"])
def test_of_two_reasons_the_first_one_counts(dialect):
    once, twice = (
        written(STREAMS[dialect](), *BEGIN, ("finish", END), *more, ("usage", FIRST))
        for more in ((), [("finish", Stop(reply_events.MAX_TOKENS))])
    )
    assert [reason(event.data) for event in twice] == [reason(event.data) for event in once]


def reason(data):
    """Return the stop reason in `data`, an event of the dialect, or None if the event has no stop reason."""
    for choice in data.get("choices", ()):
        return choice["finish_reason"]
    return data.get("stopReason") or data.get("response", {}).get("status")
