"""Tests of hand-overs: a gateway passes its listeners, sessions and open calls on to a new process.

In some tests the hand-over fails, a process is killed during it, or another user connects to the hand-over socket.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import stat
import sys
from decimal import Decimal

import pytest

from gateway.store.schema import MIGRATIONS
from gateway.testkit import scenarios
from gateway.testkit.bedrock import BedrockSim
from tests.end_to_end.test_restarts import COST, configuration
from tests.helpers.gateway import HAIKU, KEY, bedrock
from tests.helpers.hostile_http import CHAT
from tests.helpers.processes import family, irisgate
from tests.helpers.waiting import eventually

STREAM = {**CHAT, "stream": True}
HELLO = {"type": "Hello", "protocol": 1, "schema": len(MIGRATIONS), "database": "", "sync": False}


@pytest.fixture
async def second_sim():
    async with BedrockSim({KEY}) as simulator:
        yield simulator


@contextlib.asynccontextmanager
async def held_stream(gateway, simulated, **more):
    """Begin a stream that stops after its first bytes. Yield the reply, and the simulated provider's `Gate`, which lets
    the stream continue. `more` are further fields of the request.
    """
    gate = scenarios.Gate()
    simulated.script(scenarios.replace(scenarios.NAMED["text"], gate=gate))
    async with gateway.session.post(f"{gateway.url}/v1/chat/completions", json={**STREAM, **more}) as reply:
        await reply.content.readany()
        yield reply, gate


async def finish(reply, gate):
    gate.let_pass(100)
    assert b"[DONE]" in await reply.content.read()


async def balance(gateway):
    async with gateway.session.get(f"{gateway.url}/api/quotas") as reply:
        (bucket,) = (await reply.json())["quotas"]
    return Decimal(str(bucket["balance_usd"])), Decimal(str(bucket["reserved_usd"]))


async def one_record_each(gateway, outcomes):
    """Check that the calls have exactly these outcomes, and that each was charged once."""
    calls = await gateway.stored(len(outcomes))
    assert sorted(call["outcome"] for call in calls) == sorted(outcomes)
    assert len({call["id"] for call in calls}) == len(calls)
    charged = sum(Decimal(str(call["charges_usd"].get("all", 0))) for call in calls)
    assert await balance(gateway) == (1000 - charged, 0)


def exchange(connection, message):
    """Send a message on a hand-over socket. Return the answer, or None if the connection is closed."""
    data = message if isinstance(message, bytes) else json.dumps(message).encode()
    connection.sendall(len(data).to_bytes(4, "big") + data)
    head, descriptors, _, _ = socket.recv_fds(connection, 4, 50)
    for descriptor in descriptors:
        os.close(descriptor)
    answer = b""
    while len(answer) < int.from_bytes(head, "big"):
        answer += connection.recv(65536)
    return json.loads(answer) if head else None


def talk(state, *messages):
    """Send messages one after the other on one connection to the hand-over socket. Return the answer to the last
    message.
    """
    with connected(state) as connection:
        return [exchange(connection, message) for message in messages][-1]


def connected(state):
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(10)
    # relative to the folder, because the path of a socket may not be long
    folder = os.open(state, os.O_RDONLY)
    connection.connect(f"/proc/self/fd/{folder}/handover.sock")
    os.close(folder)
    return connection


async def test_a_configuration_with_errors_leaves_the_old_process_alone(tmp_path, bedrock_sim):
    arguments = configuration(tmp_path, bedrock_sim.url)
    async with family(tmp_path, *arguments) as gateway:
        async with held_stream(gateway, bedrock_sim) as (reply, gate):
            good = (tmp_path / "config.hujson").read_text()
            (tmp_path / "config.hujson").write_text("{ broken")
            os.kill(gateway.current, signal.SIGUSR2)
            await gateway.line("restart.failed")
            assert (await gateway.chat())[0] == 200
            await finish(reply, gate)
        (tmp_path / "config.hujson").write_text(good)
        await one_record_each(gateway, ["ok"] * 2)
        await gateway.restart()
        assert (await gateway.chat())[0] == 200
        await gateway.session.close()
        await gateway.end()


@pytest.mark.parametrize("fault", ["a listener in use", "another database", "another sync"])
async def test_a_new_process_that_cannot_start_is_no_fault_of_the_old(tmp_path, bedrock_sim, fault):
    arguments = configuration(tmp_path, bedrock_sim.url)
    async with family(tmp_path, *arguments) as gateway:
        document = json.loads((tmp_path / "config.hujson").read_text())
        if fault == "a listener in use":
            document["server"]["listeners"].append({"listen": bedrock_sim.url.removeprefix("http://")})
        else:
            document["storage"] = {"url": "sqlite:b.db"} if fault == "another database" else {"sync": True}
        (tmp_path / "other.hujson").write_text(json.dumps(document))
        other = ["serve", "--take-over", "--config", "other.hujson", "--state", str(tmp_path / "state")]
        status, out, err = await irisgate(tmp_path, *other)
        assert (status, "Traceback" in err, "listening" in out) == (2, False, False)
        assert ("cannot listen" if "listener" in fault else "does not hand over") in err
        assert (tmp_path / "http.sock").is_socket()
        assert (await gateway.chat())[0] == 200
        await one_record_each(gateway, ["ok"])


async def test_a_process_that_ends_after_its_commit_gives_everything_back(tmp_path, bedrock_sim):
    """Check that the old process continues to serve if the new process has committed the hand-over and then ends.

    Three calls must each be recorded once: one that was open, one that began during the hand-over, and one that began
    later.
    """
    arguments = configuration(tmp_path, bedrock_sim.url)
    state = tmp_path / "state"
    async with family(tmp_path, *arguments) as gateway:
        hello = {**HELLO, "database": str(state / "irisgate.db")}
        async with held_stream(gateway, bedrock_sim) as (reply, gate):
            with connected(state) as taker:
                for message, kind in ((hello, "Sockets"), ({"type": "Commit"}, "State")):
                    assert (await asyncio.to_thread(exchange, taker, message))["type"] == kind
                early = asyncio.create_task(gateway.chat())
                await finish(reply, gate)
                assert not early.done()
        assert (await asyncio.wait_for(early, 30))[0] == 200
        await gateway.line("handover.failed")
        assert not list((state / "journal").glob("replaced-*"))
        assert (await gateway.chat())[0] == 200
        await one_record_each(gateway, ["ok"] * 3)
        await gateway.restart()
        assert (await gateway.chat())[0] == 200
        await one_record_each(gateway, ["ok"] * 4)


async def test_calls_of_an_old_process_that_is_killed_are_lost(tmp_path, bedrock_sim):
    async with family(tmp_path, *configuration(tmp_path, bedrock_sim.url)) as gateway:
        old = gateway.current
        async with held_stream(gateway, bedrock_sim) as (reply, _):
            await gateway.restart()
            assert (await balance(gateway))[1] > 0
            os.kill(old, signal.SIGKILL)
            with contextlib.suppress(Exception):
                await reply.content.read()
        await gateway.line("calls.lost")
        assert (await gateway.chat())[0] == 200
        await one_record_each(gateway, ["lost", "ok"])
        assert not list((tmp_path / "state" / "journal").glob("replaced-*"))


async def test_calls_of_the_old_process_outlive_a_new_process_that_is_killed(tmp_path, bedrock_sim):
    """Check that calls of a first process are recorded and charged, although the second process, which took over the
    journal, is killed.

    A third process records them. One call ends before the third process begins, and one ends afterwards.
    """
    arguments = configuration(tmp_path, bedrock_sim.url)
    async with family(tmp_path, *arguments) as gateway:
        async with held_stream(gateway, bedrock_sim) as early, held_stream(gateway, bedrock_sim) as late:
            await gateway.restart()
            os.kill(gateway.current, signal.SIGKILL)
            await finish(*early)
            listen = ["--listen", gateway.url.removeprefix("http://")]
            async with family(tmp_path, *arguments, *listen) as third:
                assert (await third.chat())[0] == 200
                await finish(*late)
                await one_record_each(third, ["ok"] * 3)
                calls = await third.stored(3)
        assert {Decimal(str(call["charges_usd"]["all"])) for call in calls if call["stream"]} == {COST}


async def test_several_old_processes_end_their_calls_at_once(tmp_path, bedrock_sim):
    async with (
        family(tmp_path, *configuration(tmp_path, bedrock_sim.url)) as gateway,
        contextlib.AsyncExitStack() as held,
    ):
        streams = []
        for _ in range(3):
            streams.append(await held.enter_async_context(held_stream(gateway, bedrock_sim)))
            await gateway.restart()
        reserved = (await balance(gateway))[1]
        for reply, gate in streams:
            await finish(reply, gate)
        assert reserved > 0
        await one_record_each(gateway, ["ok"] * 3)


async def test_a_call_that_begins_in_the_old_process_reserves_in_the_new(tmp_path, bedrock_sim):
    """Check that after a hand-over, calls over old connections to the old process reserve their cost in the new
    process, which has the balance.

    When calls to the new process have spent the balance, a call over an old connection is refused.
    """
    arguments = configuration(tmp_path, bedrock_sim.url, idle_seconds=60)
    document = json.loads((tmp_path / "config.hujson").read_text())
    document["quotas"]["all"]["capacity"] = "$0.0001"
    (tmp_path / "config.hujson").write_text(json.dumps(document))
    async with family(tmp_path, *arguments) as gateway:

        async def is_refused():
            return (await gateway.chat())[0] != 200

        host, port = gateway.url.removeprefix("http://").split(":")
        kept = [await asyncio.open_connection(host, int(port)) for _ in range(2)]
        body = json.dumps(CHAT).encode()
        request = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (
            len(body),
            body,
        )
        for reader, writer in kept:
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await reader.readuntil(b"\r\n\r\nok")).startswith(b"HTTP/1.1 200")
        await gateway.restart()
        replies = []
        for reader, writer in kept:
            writer.write(request)
            replies.append(await asyncio.wait_for(reader.read(), 30))
            writer.close()
            await gateway.stored(1)  # until the first call is charged, its larger reservation may cause the refusal
            await eventually(is_refused)
        assert [b"HTTP/1.1 200" in reply for reply in replies] == [True, False], replies
        assert b"quota" in replies[1]
        assert all(b"Connection: close" in reply for reply in replies)


STRANGER = """
import os, socket, sys
os.chdir(sys.argv[1])
os.setresuid(0, 65534, 0)
with socket.socket(socket.AF_UNIX) as one:
    one.connect("handover.sock")
    print(one.recv(1))
"""
"""A program that root starts. It connects to the hand-over socket as another user."""


async def test_the_socket_of_the_hand_over_is_for_one_user(tmp_path, bedrock_sim):
    """Check that only the socket's owner may use the hand-over socket. Another user gets no answer, even if the file
    mode permits the connection.

    The test tries another user only if it runs as root.
    """
    state = tmp_path / "state"
    async with family(tmp_path, *configuration(tmp_path, bedrock_sim.url)) as gateway:
        path = state / "handover.sock"
        await eventually(path.exists)
        assert (stat.S_IMODE(path.lstat().st_mode), path.lstat().st_uid) == (0o600, os.geteuid())
        if os.geteuid() == 0:
            state.chmod(0o711)
            path.chmod(0o666)
            stranger = await asyncio.create_subprocess_exec(
                sys.executable, "-c", STRANGER, str(state), stdout=asyncio.subprocess.PIPE
            )
            out, _ = await asyncio.wait_for(stranger.communicate(), 30)
            assert (stranger.returncode, out) == (0, b"b''\n")
            await gateway.line("handover.refused")


MESSAGES = [
    b"",
    b"\xff" * 9,
    b"[" * 100_000,
    {"type": "Commit"},
    {"type": "Ready"},
    {"type": "Nothing"},
    {**HELLO, "protocol": 2},
    {**HELLO, "schema": len(MIGRATIONS) - 1},
    {**HELLO, "database": "/another.db"},
    {"type": "Reserve", "spool": "../x", "call": "c", "claims": []},
    {"type": "Reserve", "spool": "", "call": "c", "claims": [["a", None, 1, []]]},
]
"""Messages that have no effect at the hand-over socket: the gateway declines them, or does not answer."""


async def test_messages_that_agree_with_nothing_change_nothing(tmp_path, bedrock_sim):
    state = tmp_path / "state"
    async with family(tmp_path, *configuration(tmp_path, bedrock_sim.url)) as gateway:
        for message in MESSAGES:
            answer = await asyncio.to_thread(talk, state, message)
            assert answer is None or answer["type"] == "Declined", message
        assert (await gateway.chat())[0] == 200
        await gateway.restart()
        assert (await gateway.chat())[0] == 200
        await one_record_each(gateway, ["ok"] * 2)


async def test_the_new_process_knows_the_circuits_and_sessions_of_the_old_one(tmp_path, bedrock_sim, second_sim):
    """Check that the new process takes over the old one's sessions and open circuits. A model whose circuit is open
    gets no call.
    """
    arguments = configuration(tmp_path, bedrock_sim.url)
    path = tmp_path / "config.hujson"
    document = json.loads(path.read_text())
    document["providers"]["c"] = bedrock(second_sim.url, preference=-1)
    document["resilience"] = {"circuit_breaker": {"open_seconds": 600}, "retry_budget": 1.0}
    path.write_text(json.dumps(document))
    async with family(tmp_path, *arguments) as gateway:
        bedrock_sim.default = scenarios.error("InternalServerException", "down")
        for number in range(6):  # another session each, because a session stays where it was served
            assert (await gateway.chat(messages=[{"role": "user", "content": f"hello {number}"}]))[0] == 200
        before = len(bedrock_sim.requests)
        await gateway.restart()
        (adopted,) = gateway.entries("handover.memory_adopted")
        assert (adopted["resting"], adopted["sessions"]) == (1, 6)
        assert (await gateway.chat())[0] == 200
        assert len(bedrock_sim.requests) == before
        async with gateway.session.get(f"{gateway.url}/api/providers/health") as reply:
            models = (await reply.json())["providers"]
        states = {(each["provider"], each["model"]): each["state"] for each in models}
        assert states["b", HAIKU] == "open"
        assert {state for key, state in states.items() if key != ("b", HAIKU)} == {"closed"}
        bedrock_sim.default = None
        await gateway.session.close()
        await gateway.end()
