"""Tests of providers that stop sending in the middle of a reply, at any byte.

Such a call must end at a deadline. Its client must get one error in its own format.
"""

import asyncio
import socket

import pytest

from tests.helpers.every_client import (
    CLIENTS,
    DELTA,
    EVENTS,
    FLAGS,
    START,
    WITH_PINGS,
    ends_with_an_error,
    gated,
    head,
    invoke_event,
    message,
    sse,
    streamed,
    whole,
)
from tests.helpers.gateway import bedrock, gate
from tests.helpers.raw_provider import chunk, sends
from tests.helpers.waiting import eventually

SHORT = {"head_seconds": 0.3, "first_event_seconds": 0.3, "read_seconds": 0.3}
HEADS = {
    "nothing": sends(),
    "100 and nothing": sends(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "103 and nothing": sends(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"),
    "103 for ever": sends(drip=b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    "half a head": sends(b"HTTP/1.1 200 OK\r\nContent-"),
    "a dripped head": sends(b"HTTP/1.1 200 OK\r\nX: ", drip=b"x"),
}


PING = {"type": "ping"}
TEXT = message("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "he"}})
ENDLESS = {
    # flag of the provider: an event that says nothing, and an event with text
    "anthropic_messages": {"keep-alive": sse(PING), "text": sse(DELTA)},
    "openai_chat": {"keep-alive": b'data: {"id":"c","choices":[]}\n\n', "text": EVENTS["openai_chat"][1]},
    "bedrock_converse": {"keep-alive": message("contentBlockDelta", {"contentBlockIndex": 0}), "text": TEXT},
    "bedrock_model_invoke": {"keep-alive": invoke_event(PING), "text": invoke_event(DELTA)},
}


def dripped(pieces, is_dripped):
    return {"first": chunk(pieces[0]), "drip": chunk(pieces[1])} if is_dripped else {}


async def all_called(state, plays, timeouts, request):
    """Make a call from each client, all at the same time, to providers that do not complete their replies.

    Check that each call fails by a timeout after one attempt, and that the connection to its provider is closed. Return
    pairs of a call's path and its reply.
    """
    more = {"resilience": {"timeouts": {**SHORT, **timeouts}}}
    async with gated(state, plays, more=more) as (gw, peers):
        calls = {client: request(client) for client in CLIENTS}
        replies = await asyncio.wait_for(asyncio.gather(*(gw.post(*call) for call in calls.values())), 30)
        records = await gw.calls(len(CLIENTS))
        assert {(record["outcome"], record["error"], record["attempts"]) for record in records} == {
            ("failed", "timeout", 1)
        }
        await eventually(lambda: sum(peer.closed for peer in peers.values()) == len(CLIENTS))
        return [(path, reply) for (path, _), reply in zip(calls.values(), replies, strict=True)]


@pytest.mark.parametrize("place", HEADS)
async def test_a_head_that_never_comes_is_a_504(tmp_path, place):
    for request in (whole, streamed):
        replies = await all_called(tmp_path / request.__name__, dict.fromkeys(FLAGS, HEADS[place]), {}, request)
        for path, reply in replies:
            # Converse's own exception for a timeout has this status
            assert reply.status == (408 if "converse" in path else 504)


@pytest.mark.parametrize("is_dripped", [False, True], ids=["silent", "no event"])
async def test_a_first_event_that_never_comes_is_a_504(tmp_path, is_dripped):
    plays = {
        flag: sends(head(content_type), **dripped(pieces, is_dripped))
        for flag, (content_type, _, pieces) in EVENTS.items()
    }
    for path, reply in await all_called(tmp_path, plays, {"read_seconds": 60}, streamed):
        # a comment of a native stream is passed on, so its status is sent already
        assert reply.status in {504, 408} or (is_dripped and ends_with_an_error(path, reply.body))


@pytest.mark.parametrize("is_dripped", [False, True], ids=["silent", "no event"])
async def test_silence_between_events_is_an_error_in_the_stream(tmp_path, is_dripped):
    plays = {
        flag: sends(head(content_type), chunk(events), **dripped(pieces, is_dripped))
        for flag, (content_type, events, pieces) in EVENTS.items()
    }
    for path, reply in await all_called(tmp_path, plays, {"first_event_seconds": 60}, streamed):
        assert (reply.status, ends_with_an_error(path, reply.body)) == (200, True)


@pytest.mark.parametrize("drip", [b"", b" "], ids=["silent", "dripped"])
async def test_a_whole_body_that_does_not_come_is_a_504(tmp_path, drip):
    play = sends(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99999\r\n\r\n{", drip=drip)
    for path, reply in await all_called(tmp_path, dict.fromkeys(FLAGS, play), {}, whole):
        assert reply.status == (408 if "converse" in path else 504)


async def test_no_connection_in_time_is_a_503(tmp_path):
    with socket.socket() as deaf:
        # a queue of one connection, which is full: further connections get no answer
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(deaf.getsockname())
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        more = {"resilience": {"timeouts": {"connect_seconds": 0.2}}}
        async with gate(tmp_path, {"openai_chat": bedrock(url, flags=["openai_chat"])}, more=more) as gw:
            reply = await gw.post(*whole("chat native"))
            (record,) = await gw.calls()
        for filler in fillers:
            filler.close()
    assert (reply.status, record["error_native"]) == (503, "connect_timeout")


@pytest.mark.parametrize("place", ["before the head", "before the first event"])
@pytest.mark.parametrize("end", ["events", "error", "silence"])
async def test_a_stream_that_begins_late_is_pinged(tmp_path, place, end):
    """Check that a client gets pings while the provider is silent before its first event, and then the events or an
    error.
    """
    late = asyncio.Event()

    def play_of(content_type, events):
        async def play(writer):
            if place == "before the first event":
                writer.write(head(content_type))
            await late.wait()
            if end == "silence":
                return
            if place == "before the head" and end == "error":
                writer.write(b"HTTP/1.1 400 Bad\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
                return
            if place == "before the head":
                writer.write(head(content_type))
            writer.write(chunk(events if end == "events" else b"\0\0garbage\n\n") + b"0\r\n\r\n")

        return play

    async def read(gw, client):
        path, body = streamed(client)
        async with gw.session.post(gw.url + path, json=body) as reply:
            first = await reply.content.readuntil(b"\n\n")
            pinged.append(client)
            data = first + await reply.content.read()
            assert (reply.status, b"ping" in first) == (200, True)
            assert data.count(b"he") >= (end == "events")
            assert ends_with_an_error(path, data)

    pinged = []
    plays = {flag: play_of(content_type, events) for flag, (content_type, events, _) in EVENTS.items()}
    more = {"resilience": {"timeouts": {"head_seconds": 2, "first_event_seconds": 2}}}
    async with gated(tmp_path, plays, more=more, ping_seconds=0.05) as (gw, _):
        readers = [asyncio.create_task(read(gw, client)) for client in WITH_PINGS]
        await eventually(lambda: len(pinged) == len(WITH_PINGS))
        late.set()
        await asyncio.gather(*readers)
        assert {record["outcome"] for record in await gw.calls(len(WITH_PINGS))} == {"failed"}


@pytest.mark.parametrize("client", ["converse native", "messages native"])
async def test_formats_without_pings_wait_for_the_status(tmp_path, client):
    """Check that a call without pings gets the provider's status 429, even if this status comes late.

    Calls are without pings if they are not streamed, or if their stream format has no pings. Other calls get status 200
    with the first ping.
    """
    flag, *_ = CLIENTS[client]
    path, body = streamed(client) if client == "converse native" else whole(client)

    async def play(writer):
        await asyncio.sleep(0.4)
        writer.write(b"HTTP/1.1 429 Slow\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")

    async with gated(tmp_path, {flag: play}, ping_seconds=0.02) as (gw, _):
        assert (await gw.post(path, body)).status == 429


@pytest.mark.parametrize("kind", ["keep-alive", "text"])
async def test_a_stream_whose_events_never_end_is_ended(tmp_path, kind):
    """Check that a call ends if the provider sends only pings for ever, or text without end."""
    plays = {
        flag: sends(head(EVENTS[flag][0]), chunk(EVENTS[flag][1]), drip=chunk(events[kind]))
        for flag, events in ENDLESS.items()
    }
    longer = {**dict.fromkeys(SHORT, 60), "stream_seconds": 0.5}
    for path, reply in await all_called(tmp_path, plays, longer, streamed):
        assert (reply.status, ends_with_an_error(path, reply.body)) == (200, True)
        assert b"within 0.5 seconds" in reply.body


async def test_a_stream_with_an_event_now_and_then_goes_on(tmp_path):
    """Check that a stream may last longer than every timeout, as long as each pause between its events is shorter."""
    more = {"resilience": {"timeouts": dict.fromkeys(SHORT, 1.0)}}

    async def play(writer):
        writer.write(head("text/event-stream") + chunk(sse(START)))
        for _ in range(12):
            await asyncio.sleep(0.1)
            writer.write(chunk(sse(DELTA)))
        stop = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 8}}
        writer.write(chunk(sse(stop, {"type": "message_stop"})) + b"0\r\n\r\n")

    async with gated(tmp_path, {"anthropic_messages": play}, more=more) as (gw, _):
        reply = await gw.post(*streamed("messages native"))
        (record,) = await gw.calls()
        assert (reply.body.count(b'"he"'), record["outcome"]) == (12, "ok")
