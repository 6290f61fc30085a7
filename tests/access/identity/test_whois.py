"""Tests of lookups at tailscaled: what its answers mean, and what happens if it does not answer."""

import asyncio
import gc
import json
import time
from contextlib import suppress

import pytest

from gateway.access.identity import localapi as localapi_module
from gateway.access.identity import whois as whois_module
from gateway.access.identity.caller import LONGEST_LOGIN, Caller, Identity, tagged
from gateway.access.identity.localapi import LocalApi, LocalApiFailed
from gateway.access.identity.lookups import Lookups
from gateway.access.identity.whois import Whois, arrived_by_tailnet, connecting, host_and_port
from gateway.contract.errors import PERMISSION, UNAVAILABLE, Refused
from gateway.telemetry.log import configure
from gateway.testkit.localapi import LocalApiSim
from gateway.testkit.tailnet_nodes import Node, User
from tests.helpers.gateway import CAP, Lines
from tests.helpers.identity import ALICE, Connection
from tests.helpers.waiting import eventually

HERE = ("127.0.0.1", 8080)
BOB = Node("phone.example.ts.net", ("100.64.0.8",), User("bob@example.com"))


SOMEBODY = b'{"Node": {"StableID": "n1"}, "UserProfile": {"LoginName": "alice@example.com"}}'


def caller(connection, peer, local=("100.64.0.1", 80)):
    return Caller(connection, peer, local, ())


class Clock:
    """A clock that moves only when the test moves it."""

    now = 1000.0

    def __call__(self):
        return self.now

    def pass_by(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    """Replace the clock by which the age of tailscaled's answers is measured."""
    made = Clock()
    monkeypatch.setattr(whois_module, "monotonic", made)
    return made


@pytest.fixture
async def sim(tmp_path):
    async with LocalApiSim(tmp_path / "tailscaled.sock") as running:
        running.add(ALICE)
        running.add(BOB)
        yield running


@pytest.fixture
async def asking(sim):
    """Yield a `Whois` that asks the simulated tailscaled, and its log lines."""
    lookups = Lookups(str(sim.path))
    lines = Lines()
    whois = Whois(lookups, configure(lines), service="", peer=connecting)
    yield whois, lines
    await lookups.close()


async def test_a_user_is_known_by_login_and_node(asking):
    whois, _ = asking
    identity = await whois(caller(Connection(), ("100.64.0.7", 4711)))
    assert identity == Identity("alice@example.com", node=ALICE.stable_id)


async def test_an_ipv6_address_is_asked_in_brackets_and_without_its_zone(asking, sim):
    whois, _ = asking
    identity = await whois(caller(Connection(), ("fd7a:115c:a1e0::7%3", 4711, 0, 3), ("fd7a:115c:a1e0::1", 80, 0, 0)))
    assert identity.login == "alice@example.com"
    assert sim.asked[-1] == {"addr": "[fd7a:115c:a1e0::7]:4711", "proto": "tcp"}


async def test_an_ipv4_caller_of_an_ipv6_listener_is_asked_for_as_one(asking):
    whois, _ = asking
    identity = await whois(caller(Connection(), ("::ffff:100.64.0.7", 4711, 0, 0), ("::ffff:100.64.0.1", 80, 0, 0)))
    assert identity.login == "alice@example.com"


async def test_a_tagged_node_is_all_its_tags_and_nobodys(asking, sim):
    sim.add(Node("ci.example.ts.net", ("100.64.0.9",), User("alice@example.com"), tags=("tag:prod", "tag:api")))
    whois, _ = asking
    identity = await whois(caller(Connection(), ("100.64.0.9", 4711)))
    assert (identity.login, identity.tags, identity.groups) == ("tag:api,tag:prod", ("tag:api", "tag:prod"), ())


@pytest.mark.parametrize("tag", ["alice@example.com", "(loopback)", "*", "group:eng", "prod", "TAG:prod"])
async def test_what_does_not_begin_as_a_tag_does_makes_a_node_nobody(asking, sim, tag):
    """Check that a node is refused if one of its tags lacks the prefix `tag:`. A grant could mistake such a tag for a
    caller's login.
    """
    whois, _ = asking
    sim.answer = (200, json.dumps({"Node": {"Tags": [tag]}, "UserProfile": {"LoginName": "a"}}).encode())
    assert await code(whois, caller(Connection(), ("100.64.0.7", 4711))) == PERMISSION


async def test_groups_are_known_where_the_tailnet_shows_them(asking, sim):
    groups = ("group:eng", "team@example.com", "(loopback)", "tag:prod", "*", "")
    sim.add(Node("desk.example.ts.net", ("100.64.0.10",), User("carol@example.com", groups)))
    whois, _ = asking
    identity = await whois(caller(Connection(), ("100.64.0.10", 1)))
    assert identity.groups == ("group:eng", "team@example.com")


async def test_grants_of_the_tailnet_policy_come_with_the_caller(asking, sim):
    caps = {CAP: [{"role": "user"}], "irisgate.dev/cap/irisgate": [{"models": "b/**"}], "other.example/cap": [1]}
    sim.add(Node("desk.example.ts.net", ("100.64.0.10",), User("carol@example.com"), caps=caps))
    whois, _ = asking
    identity = (await whois(caller(Connection(), ("100.64.0.10", 1)))).capabilities
    assert [(capability.role, capability.models) for capability in identity] == [("user", ()), (None, ("b/**",))]


async def test_while_a_large_policy_is_read_others_are_served(tmp_path):
    values = [{"models": f"provider-{number}/**"} for number in range(6_000)]
    answer = json.loads(SOMEBODY) | {"CapMap": {CAP: values}}
    lines = Lines()
    async with Tailscaled(tmp_path / "tailscaled.sock", json.dumps(answer).encode()) as server:
        whois = Whois(Lookups(str(server.path)), configure(lines), service="", peer=connecting)
        begun = time.thread_time()
        whois._read_policy(((CAP, json.dumps(values).encode()),))
        takes = time.thread_time() - begun
        task = asyncio.create_task(whois(caller(Connection(), ("100.64.0.7", 4711))))
        longest, last = 0.0, time.thread_time()
        while not task.done():
            await asyncio.sleep(0)
            longest, last = max(longest, (now := time.thread_time()) - last), now
        await whois._lookups.close()
    assert len((await task).capabilities) == len(values)
    assert longest < takes / 2


class Tailscaled:
    """A server that gives the same answer to every question. It records the questions, and may close the connection."""

    def __init__(self, path, body, *, head=b"HTTP/1.1 200 OK", answers=None):
        self.path = path
        self.reply = head + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        self.answers = answers
        """Number of questions that a connection answers. When the next question has been read, the connection is
        closed."""
        self.asked = []

    async def __aenter__(self):
        self.server = await asyncio.start_unix_server(self._serve, self.path)
        return self

    async def __aexit__(self, *_):
        self.server.close()
        await self.server.wait_closed()

    async def _serve(self, reader, writer):
        answered = 0
        with suppress(asyncio.IncompleteReadError):
            while True:
                self.asked.append((await reader.readuntil(b"\r\n\r\n")).split()[1].decode())
                if answered == self.answers:
                    break
                writer.write(self.reply)
                answered += 1
        writer.close()


async def test_a_query_lost_on_closed_connections_is_repeated(tmp_path):
    """Check that a lookup is repeated until it succeeds if a restart of tailscaled has closed several pooled
    connections.

    aiohttp itself repeats a request only once.
    """
    async with Tailscaled(tmp_path / "s", SOMEBODY, answers=1) as server:
        api = LocalApi(str(server.path))
        await asyncio.gather(*(api.whois("100.64.0.7", 1) for _ in range(2)))
        assert len(server.asked) == 2
        assert (await api.whois("100.64.0.7", 1)).UserProfile.LoginName == "alice@example.com"
        await api.close()
    assert len(server.asked) == 5


async def test_a_question_that_is_never_answered_is_not_asked_for_ever(tmp_path):
    async with Tailscaled(tmp_path / "s", SOMEBODY, answers=0) as server:
        api = LocalApi(str(server.path))
        with pytest.raises(LocalApiFailed):
            await api.whois("100.64.0.7", 1)
        await api.close()
    assert len(server.asked) <= 4


async def test_an_answer_that_leads_elsewhere_is_not_followed(tmp_path):
    head = b"HTTP/1.1 302 Found\r\nLocation: http://local-tailscaled.sock/elsewhere"
    async with Tailscaled(tmp_path / "s", b"", head=head) as server:
        api = LocalApi(str(server.path))
        with pytest.raises(LocalApiFailed, match="with 302"):
            await api.whois("100.64.0.7", 1)
        await api.close()
    assert [path.partition("?")[0] for path in server.asked] == ["/localapi/v0/whois"]


async def test_unreadable_policy_grants_give_nothing_and_are_logged(asking, sim):
    """Check that grants of the tailnet policy that cannot be read allow nothing and are logged."""
    whois, lines = asking
    large, own = b'[{"role": ' + b"9" * 5000 + b"}]", b'[{"role": "user"}]'
    caps = b'{"%b": %b, "irisgate.dev/cap/irisgate": %b}' % (CAP.encode(), large, own)
    sim.answer = (200, b'{"Node": {"StableID": "n1"}, "UserProfile": {"LoginName": "a@b"}, "CapMap": %b}' % caps)
    identity = await whois(caller(Connection(), ("100.64.0.7", 4711)))
    assert [capability.role for capability in identity.capabilities] == ["user"]
    (line,) = await lines.until("identity.policy_grant_ignored")
    assert CAP in line["finding"]


async def test_an_answer_that_is_nested_without_end_is_none(asking, sim):
    whois, _ = asking
    deep = b"[" * 200_000 + b"]" * 200_000
    sim.answer = (200, b'{"Node": {}, "UserProfile": {"LoginName": "a@b"}, "CapMap": {"x.y/z": %b}}' % deep)
    assert await code(whois, caller(Connection(), ("100.64.0.7", 4711))) == UNAVAILABLE


async def test_a_service_has_grants_of_its_own(sim):
    sim.add(
        Node(
            "desk.example.ts.net",
            ("100.64.0.10",),
            User("carol@example.com"),
            caps={CAP: [{"role": "admin"}]},
            service_caps={"svc:ai": {CAP: [{"role": "user"}]}},
        )
    )
    lookups = Lookups(str(sim.path))
    whois = Whois(lookups, configure(Lines()), service="svc:ai", peer=connecting)
    identity = await whois(caller(Connection(), ("100.64.0.10", 1)))
    await lookups.close()
    assert [capability.role for capability in identity.capabilities] == ["user"]


async def test_with_userspace_networking_the_port_tells_callers_apart(asking, sim):
    sim.proxied(5001, ALICE)
    sim.proxied(5002, BOB)
    whois, _ = asking
    assert (await whois(caller(Connection(), ("127.0.0.1", 5001), HERE))).login == "alice@example.com"
    assert (await whois(caller(Connection(), ("127.0.0.1", 5002), HERE))).login == "bob@example.com"


async def test_a_port_that_is_used_again_is_its_new_callers(asking, sim):
    whois, _ = asking
    sim.proxied(5001, ALICE)
    assert (await whois(caller(Connection(), ("127.0.0.1", 5001), HERE))).login == "alice@example.com"
    sim.proxied(5001, BOB)
    assert (await whois(caller(Connection(), ("127.0.0.1", 5001), HERE))).login == "bob@example.com"


async def test_a_connection_is_asked_for_once(asking, sim):
    whois, _ = asking
    connection = Connection()
    for _ in range(5):
        await whois(caller(connection, ("100.64.0.7", 4711)))
    assert len(sim.asked) == 1


async def test_an_answer_is_forgotten_with_its_connection(asking):
    whois, _ = asking
    for _ in range(100):
        await whois(caller(Connection(), ("100.64.0.7", 4711)))
    gc.collect()
    assert not len(whois._known)


async def test_after_its_life_an_answer_is_asked_for_anew_on_the_same_connection(asking, sim, clock):
    whois, _ = asking
    connection = Connection()
    sim.proxied(5001, ALICE)
    assert (await whois(caller(connection, ("127.0.0.1", 5001), HERE))).login == "alice@example.com"
    sim.proxied(5001, BOB)
    clock.pass_by(whois_module.LIFE_SECONDS)
    assert (await whois(caller(connection, ("127.0.0.1", 5001), HERE))).login == "bob@example.com"


async def test_the_life_of_an_answer_begins_with_the_question(asking, sim, clock):
    """Check that the age of an answer counts from the time of the question, even if the answer took long."""
    whois, _ = asking
    connection = Connection()
    sim.delay = 0.1
    first = asyncio.create_task(whois(caller(connection, ("100.64.0.7", 4711))))
    await eventually(lambda: sim.asked)
    clock.pass_by(whois_module.LIFE_SECONDS - 1)
    sim.delay = 0
    assert (await first).login == "alice@example.com"
    sim.remove(ALICE)
    assert (await whois(caller(connection, ("100.64.0.7", 4711)))).login == "alice@example.com"
    clock.pass_by(2)
    assert await code(whois, caller(connection, ("100.64.0.7", 4711))) == PERMISSION


async def test_who_has_left_the_tailnet_is_refused_after_the_life_of_the_answer(asking, sim, clock):
    whois, _ = asking
    connection = Connection()
    await whois(caller(connection, ("100.64.0.7", 4711)))
    sim.remove(ALICE)
    clock.pass_by(whois_module.LIFE_SECONDS)
    assert await code(whois, caller(connection, ("100.64.0.7", 4711))) == PERMISSION


async def test_no_identity_outlives_its_answer_while_tailscaled_is_away(asking, sim, clock):
    whois, lines = asking
    connection = Connection()
    await whois(caller(connection, ("100.64.0.7", 4711)))
    await sim.stop()
    clock.pass_by(whois_module.LIFE_SECONDS)
    for _ in range(3):
        assert await code(whois, caller(connection, ("100.64.0.7", 4711))) == UNAVAILABLE
    await sim.start()
    assert (await whois(caller(connection, ("100.64.0.7", 4711)))).login == "alice@example.com"
    # the log's lines are written in order, so all lines before the last one are there
    assert len(await lines.until("identity.available")) == len(lines.entries("identity.unavailable")) == 1


async def test_a_restart_of_tailscaled_fails_no_call(asking, sim):
    """Check that no call fails if tailscaled is restarted, which closes the pooled connections to it."""
    whois, _ = asking
    for _ in range(5):
        await whois(caller(Connection(), ("100.64.0.7", 4711)))
        await sim.stop()
        await sim.start()


@pytest.mark.parametrize(
    "answer",
    [
        (200, b""),
        (200, b"<html>"),
        (200, b"null"),
        (200, b"[]"),
        (200, b"{}"),
        (200, b'{"Node": null, "UserProfile": null}'),
        (200, b'{"Node": {}}'),
        (200, b'{"Node": {"Tags": "tag:x"}, "UserProfile": {"LoginName": "alice@example.com"}}'),
        (200, b'{"Node": {}, "UserProfile": {"LoginName": 7}}'),
        (200, b'{"Node": {}, "UserProfile": {"LoginName": "a"}, "CapMap": []}'),
        (200, b'{"Node": {"StableID": "n1"}, "UserProfile": {"LoginName": "al'),
        (200, SOMEBODY + b" " * localapi_module.MAX_ANSWER),
        (500, b"boom"),
        (403, b"invalid localapi request"),
        (400, b"missing 'addr' parameter"),
        (302, SOMEBODY),
    ],
)
async def test_an_unreadable_answer_is_no_identity_but_temporary(asking, sim, answer):
    """Check that a caller is refused, and told to try again, if tailscaled's answer cannot be read."""
    whois, _ = asking
    sim.answer = answer
    assert await code(whois, caller(Connection(), ("100.64.0.7", 4711))) == UNAVAILABLE


@pytest.mark.parametrize("login", ["", "tagged-devices", "tag:prod", "(loopback)", "*", "group:x", "a\nb", "a" * 2000])
async def test_a_login_that_no_grant_could_mean_is_nobody(asking, sim, login):
    whois, _ = asking
    sim.answer = (200, json.dumps({"Node": {"StableID": "n1"}, "UserProfile": {"LoginName": login}}).encode())
    assert await code(whois, caller(Connection(), ("100.64.0.7", 4711))) == PERMISSION


async def test_the_longest_login_is_taken_and_no_longer_one(asking, sim):
    whois, _ = asking
    for more in (0, 1):
        profile = {"LoginName": "a" * (LONGEST_LOGIN + more)}
        sim.answer = (200, json.dumps({"Node": {"StableID": "n1"}, "UserProfile": profile}).encode())
        if more:
            assert await code(whois, caller(Connection(), ("100.64.0.7", 4711))) == PERMISSION
        else:
            assert (await whois(caller(Connection(), ("100.64.0.7", 4711)))).login == profile["LoginName"]


def test_the_longest_name_of_tags_together_is_taken_and_no_longer_one():
    first, second = "tag:a", "tag:" + "b" * (LONGEST_LOGIN - len("tag:a,tag:"))
    assert len(tagged((second, first)).login) == LONGEST_LOGIN
    with pytest.raises(Refused):
        tagged((first, second + "b"))


async def test_a_tailscaled_that_hangs_is_waited_for_so_long_and_no_longer(asking, sim, monkeypatch):
    monkeypatch.setattr(localapi_module, "ANSWER_SECONDS", 0.1)
    sim.delay = 5
    whois, _ = asking
    begun = asyncio.get_running_loop().time()
    assert await code(whois, caller(Connection(), ("100.64.0.7", 4711))) == UNAVAILABLE
    assert asyncio.get_running_loop().time() - begun < 2
    sim.delay = 0
    assert (await whois(caller(Connection(), ("100.64.0.7", 4711)))).login == "alice@example.com"


@pytest.mark.parametrize(
    "peer",
    [("100.64.0.99", 1), ("100.127.255.255", 1), ("192.168.1.7", 1), ("127.0.0.1", 1)],
)
async def test_an_address_that_nobody_has_is_nobody_whatever_range_it_lies_in(asking, peer):
    whois, _ = asking
    assert await code(whois, caller(Connection(), peer, HERE)) == PERMISSION


@pytest.mark.parametrize("local", [("192.168.1.10", 80), ("8.8.8.8", 80), ("fe80::1", 80, 0, 2), "/run/irisgate.sock"])
async def test_a_connection_that_did_not_come_by_the_tailnet_is_not_asked_for(asking, sim, local):
    whois, _ = asking
    assert await code(whois, caller(Connection(), ("100.64.0.7", 4711), local)) == PERMISSION
    assert sim.asked == []


def test_tailnet_addresses_and_loopback_arrive_by_tailnet():
    """Check `arrived_by_tailnet`. It is true for a connection whose local address is a loopback address or an address
    of the tailnet. Tailscaled is asked only about such connections.
    """
    assert all(map(arrived_by_tailnet, ["127.0.0.1", "::1", "100.64.0.1", "100.127.0.9", "fd7a:115c:a1e0:ab12::1"]))
    assert not any(map(arrived_by_tailnet, ["10.0.0.1", "100.63.0.1", "100.128.0.1", "fd7a:115c:a1e1::1", "0.0.0.0"]))


def test_a_socket_without_an_address_cannot_be_asked_for():
    with pytest.raises(Refused):
        host_and_port("")


async def code(whois, who):
    with pytest.raises(Refused) as refused:
        await whois(who)
    problem = refused.value.problem
    assert (problem.retry_after is not None) == (problem.code == UNAVAILABLE)
    return problem.code


async def test_a_refused_connection_is_not_kept(asking):
    whois, _ = asking
    for port in range(1, 4):
        assert await code(whois, caller(Connection(), ("100.64.0.99", port))) == PERMISSION
    gc.collect()
    assert len(whois._known) == 0
