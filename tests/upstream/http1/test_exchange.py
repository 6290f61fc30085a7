"""Tests of reading a reply from bytes: what is read, where the reply ends, and whether its connection may be used
again.
"""

import asyncio
import zlib
from dataclasses import dataclass

import pytest

from gateway.upstream.http1.codings import MAX_MEMBERS, STEP_BYTES, Inflated
from gateway.upstream.http1.exchange import MAX_BUFFERED_BYTES, MAX_FRAMING_BYTES, BrokenOff, Exchange

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def chunks(*parts):
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n"


@dataclass
class Outcome:
    """The parts of a reply that were read, the reason of its error, and whether its connection may be used again."""

    status: int | None = None
    headers: dict | None = None
    body: bytes = b""
    error: str = ""
    reusable: bool = False


async def read(*pieces, end=False):
    """Feed the bytes of a reply in `pieces`, and then end the connection if `end` is true. Return the outcome."""
    exchange = Exchange(lambda: None, lambda: None)
    for piece in pieces:
        exchange.feed(piece)
    if end:
        exchange.end(None)
    outcome = Outcome()
    try:
        async with asyncio.timeout(0.2):
            head = await exchange.head()
            outcome.status, outcome.headers = head.status, dict(head.headers)
            while data := await exchange.read():
                outcome.body += data
    except BrokenOff as error:
        outcome.error = str(error)
    except TimeoutError:
        outcome.error = "waits"
    outcome.reusable = exchange.is_complete and exchange.is_reusable
    return outcome


WHOLE = {
    "a length": (OK + b"Content-Length: 5\r\n\r\nhello", b"hello", True),
    "no body": (OK + b"Content-Length: 0\r\n\r\n", b"", True),
    "not modified": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", b"", True),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
    "chunks": (CHUNKED + chunks(b"hel", b"lo") + b"\r\n", b"hello", True),
    "an extension of a chunk": (CHUNKED + b"5;a=b\r\nhello\r\n0\r\n\r\n", b"hello", True),
    "spaces after a chunk's size": (CHUNKED + b"5  \r\nhello\r\n0\r\n\r\n", b"hello", True),
    "trailers": (CHUNKED + chunks(b"hello") + b"Status: 500\r\n\r\n", b"hello", True),
    "interim replies": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK + b"Content-Length: 5\r\n\r\nhello",
        b"hello",
        True,
    ),
    "no reason": (b"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello", b"hello", True),
    "lines without a carriage return": (b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", b"hello", True),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello", False),
    "HTTP/1.0 that is kept": (
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello", b"hello", True,
    ),
    "a connection that will be closed": (OK + b"Connection: close\r\nContent-Length: 5\r\n\r\nhello", b"hello", False),
    "a protocol that is offered": (
        OK + b"Upgrade: h2,h2c\r\nConnection: Upgrade\r\nContent-Length: 5\r\n\r\nhello", b"hello", True,
    ),
    "chunks in HTTP/1.0": (
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks(b"hello") + b"\r\n",
        b"hello",
        False,
    ),
    "bytes after no content": (b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nevil!", b"", False),
    "bytes after the end": (OK + b"Content-Length: 5\r\n\r\nhello, world", b"hello", False),
    "a second reply": (OK + b"Content-Length: 5\r\n\r\nhello" + OK + b"Content-Length: 4\r\n\r\nevil", b"hello", False),
    # oven-sh/bun#37436, nodejs/node#37676
    "a second reply after chunks": (
        CHUNKED + chunks(b"hello") + b"\r\n" + OK + b"Content-Length: 4\r\n\r\nevil", b"hello", False,
    ),
    "bytes after a reply that closes": (OK + b"Connection: close\r\nContent-Length: 5\r\n\r\nhello, world", b"hello", False),
    "two tokens about the connection": (OK + b"Connection: keep-alive, Close\r\nContent-Length: 5\r\n\r\nhello", b"hello", False),
    "a second head": (OK + b"Content-Length: 5\r\n\r\nhello" + OK, b"hello", False),
}  # fmt: skip


@pytest.mark.parametrize("name", WHOLE)
async def test_a_reply_is_read_however_it_is_cut(name):
    reply, body, reusable = WHOLE[name]
    for cut in range(1, len(reply)):
        outcome = await read(reply[:cut], reply[cut:])
        assert (outcome.body, outcome.error, outcome.reusable) == (body, "", reusable), cut
        assert outcome.status in {200, 204, 304}
        assert "status" not in outcome.headers  # a trailer is no header


async def test_a_body_without_a_length_ends_with_the_connection():
    outcome = await read(OK + b"\r\nhel", b"lo", end=True)
    assert (outcome.body, outcome.error, outcome.reusable) == (b"hello", "", False)


@pytest.mark.parametrize(
    "reply", [OK + b"Content-Length: 5\r\n\r\nhell", CHUNKED + b"5\r\nhell", CHUNKED + chunks(b"hello")]
)
async def test_a_reply_that_ends_too_early_is_broken_off_after_what_came(reply):
    outcome = await read(reply, end=True)
    assert outcome.error == "the provider closed the connection"
    assert outcome.body in {b"hell", b"hello"}


DAMAGED = {
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "two lengths": OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "a length and chunks": OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks(b"hello"),
    "a length with a sign": OK + b"Content-Length: +5\r\n\r\nhello",
    "a length that is no number": OK + b"Content-Length: 5,5\r\n\r\nhello",
    "a line that goes on": OK + b"A: b\r\n c\r\nContent-Length: 0\r\n\r\n",
    "a space before the colon": OK + b"Content-Length : 0\r\n\r\n",
    "a zero byte": OK + b"A: b\x00c\r\nContent-Length: 0\r\n\r\n",
    "another coding": OK + b"Transfer-Encoding: gzip\r\n\r\nhello",
    "an interim reply with a body": b"HTTP/1.1 150 X\r\nContent-Length: 5\r\n\r\nevil!"
    + OK
    + b"Content-Length: 2\r\n\r\nhi",
    "an interim reply with chunks": b"HTTP/1.1 103 X\r\nTransfer-Encoding: chunked\r\n\r\n"
    + chunks(b"evil!")
    + b"\r\n"
    + OK,
    "100 with a body": b"HTTP/1.1 100 X\r\nContent-Length: 5\r\n\r\nevil!" + OK + b"Content-Length: 2\r\n\r\nhi",
    "the same length twice": OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "an immense length": OK + b"Content-Length: 99999999999999999999999\r\n\r\nhello",
    "an empty length": OK + b"Content-Length: \r\n\r\nhello",
    "chunked twice": OK
    + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"
    + chunks(b"hello")
    + b"\r\n",
    "chunked with a parameter": OK + b"Transfer-Encoding: chunked;q=1\r\n\r\n" + chunks(b"hello") + b"\r\n",
    "almost chunked": OK + b"Transfer-Encoding: xchunked\r\n\r\n" + chunks(b"hello") + b"\r\n",
    "a carriage return in a value": OK + b"A: b\rc\r\nContent-Length: 5\r\n\r\nhello",
    "two codings": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + chunks(b"hello") + b"\r\n",
    "another protocol": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "a status below 100": b"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n",
    "a head without end": OK + b"".join(b"A%d: b\r\n" % number for number in range(MAX_FRAMING_BYTES // 8)),
    "interim replies without end": b"HTTP/1.1 103 Early Hints\r\n\r\n" * (MAX_FRAMING_BYTES // 20),
}


@pytest.mark.parametrize("name", DAMAGED)
async def test_a_damaged_head_is_an_error(name):
    outcome = await read(*(DAMAGED[name][start : start + 1000] for start in range(0, len(DAMAGED[name]), 1000)))
    assert outcome.status is None
    assert outcome.error not in {"", "waits"}
    assert not outcome.reusable


@pytest.mark.parametrize("damage", [b"zz\r\n", b"\r\n", b"-1\r\n", b"f" * 20 + b"\r\n", b"5\r\nhello!!"])
async def test_a_damaged_chunk_is_an_error_after_what_came(damage):
    outcome = await read(CHUNKED + b"2\r\nHi\r\n" + damage)
    assert outcome.body.startswith(b"Hi")
    assert outcome.error.startswith("damaged HTTP: ")


@pytest.mark.parametrize(
    "framing",
    [b"5;" + b"a" * 1000, b"5\r\nhello\r\n0\r\n" + b"A: b\r\n" * 200, b"5\r\nhello\r\n0\r\nA: " + b"b" * 1000],
)
async def test_framing_without_end_is_an_error(framing):
    """Check that endless chunk extensions and trailers are an error, because the parser would keep trailers in memory."""
    repeated = framing[-600:] if framing.startswith(b"5\r\n") and framing.endswith(b"\r\n") else framing[-1:] * 600
    outcome = await read(CHUNKED, framing, *([repeated] * (MAX_FRAMING_BYTES // 600 + 2)))
    assert outcome.error == f"more than {MAX_FRAMING_BYTES} bytes of headers"
    assert not outcome.reusable


async def test_many_small_chunks_with_extensions_are_no_fault():
    piece = b"1;" + b"a" * 500 + b"\r\nx\r\n"
    outcome = await read(CHUNKED, *[piece] * 1000, b"0\r\n\r\n")
    assert (outcome.body, outcome.error, outcome.reusable) == (b"x" * 1000, "", True)


@pytest.mark.parametrize("end", [b"", b"zz"])
async def test_a_reply_that_has_ended_stops_the_provider(end):
    """Check that reading from the connection is paused after the end of a reply, or after damaged bytes."""
    log = []
    exchange = Exchange(lambda: log.append("pause"), lambda: log.append("resume"))
    exchange.feed(CHUNKED + b"2\r\nHi\r\n" + (end + b"\r\n" if end else b"0\r\n\r\nmore"))
    assert log == ["pause"]
    assert await exchange.read() == b"Hi"
    assert log == ["pause"]


async def test_a_reader_that_is_slow_pauses_the_connection():
    log = []
    exchange = Exchange(lambda: log.append("pause"), lambda: log.append("resume"))
    exchange.feed(OK + b"Content-Length: 1000000\r\n\r\n")
    exchange.feed(bytes(MAX_BUFFERED_BYTES))
    assert log == []
    exchange.feed(b"x")
    assert log == ["pause"]
    assert len(await exchange.read()) == MAX_BUFFERED_BYTES + 1
    assert log == ["pause", "resume"]


async def inflated(*pieces):
    """Decode a compressed body that arrives in `pieces`. Return the decoded body, and the sizes of the pieces in which
    the decoder returned it.
    """
    waiting = iter(pieces)

    async def next_piece():
        return next(waiting, b"")

    reader, parts = Inflated(next_piece), []
    while data := await reader.read():
        parts.append(data)
    return b"".join(parts), [len(part) for part in parts]


def packed(data, bits):
    made = zlib.compressobj(wbits=bits)
    return made.compress(data) + made.flush()


async def test_a_body_of_very_many_members_is_an_error():
    assert (await inflated(packed(b"x", 31) * MAX_MEMBERS))[0] == b"x" * MAX_MEMBERS
    with pytest.raises(BrokenOff, match="more than 64 members"):
        await inflated(packed(b"", 31) * (MAX_MEMBERS + 1))


FORMS = {"gzip": 31, "deflate": 15, "deflate without a header": -15}


@pytest.mark.parametrize("form", FORMS)
async def test_a_compressed_body_is_decoded_however_it_is_cut(form):
    body = packed(b"hello, world", FORMS[form])
    for cut in range(1, len(body)):
        assert (await inflated(body[:cut], body[cut:]))[0] == b"hello, world"
        with pytest.raises(BrokenOff, match="ends too early"):
            await inflated(body[:cut])


async def test_a_body_of_several_gzip_members_is_read_to_its_end():
    assert (await inflated(packed(b"hello, ", 31) + packed(b"world", 31)))[0] == b"hello, world"


@pytest.mark.parametrize("form", FORMS)
async def test_a_small_body_never_becomes_a_large_piece(form):
    data, sizes = await inflated(packed(bytes(10_000_000), FORMS[form]))
    assert (len(data), max(sizes)) == (10_000_000, STEP_BYTES)


async def test_damaged_compressed_data_are_an_error():
    with pytest.raises(BrokenOff, match="damaged"):
        await inflated(packed(b"hello", 31)[:10] + b"garbage", b"more garbage")


async def test_an_empty_body_is_empty_in_any_coding():
    assert await inflated() == (b"", [])


async def test_bytes_that_are_taken_at_once_wake_no_reader():
    """Check that `Exchange.read` continues to wait while the function `quick` handles the arriving data.

    `read` gives each piece of data that arrives to `quick`, and returns the first piece for which `quick` returns
    False. Data that has arrived before is returned without a call of `quick`.
    """
    exchange, taken = Exchange(lambda: None, lambda: None), []

    def quick(data):
        taken.append(data)
        return data != b"other"

    exchange.feed(CHUNKED + b"5\r\nfirst\r\n")
    assert await exchange.read(quick) == b"first"
    reading = asyncio.create_task(exchange.read(quick))
    for part in (b"usual", b"events", b"other", b"later"):
        await asyncio.sleep(0)
        exchange.feed(b"%x\r\n%s\r\n" % (len(part), part))
    assert (await reading, await exchange.read(quick)) == (b"other", b"later")
    assert taken == [b"usual", b"events", b"other"]
    exchange.feed(b"0\r\n\r\n")
    assert await exchange.read(quick) == b""


async def test_reading_goes_on_after_many_bytes_were_taken_at_once():
    log = []
    exchange = Exchange(lambda: log.append("pause"), lambda: log.append("resume"))
    exchange.feed(CHUNKED)
    reading = asyncio.create_task(exchange.read(lambda _: True))
    await asyncio.sleep(0)
    size = MAX_BUFFERED_BYTES + 1
    exchange.feed(b"%x\r\n%s\r\n" % (size, bytes(size)))
    assert log == ["pause", "resume"]
    exchange.feed(b"0\r\n\r\n")
    assert await reading == b""
