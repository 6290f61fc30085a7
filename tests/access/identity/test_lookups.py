"""Tests of the limits on lookups at tailscaled.

Only a few lookups run at the same time. Equal lookups are made once. Lookups for tailnet callers do not wait for
lookups for other callers.
"""

import asyncio
import time

import pytest

from gateway.access.identity import lookups as lookups_module
from gateway.access.identity.localapi import LocalApiFailed
from gateway.access.identity.lookups import UNCERTAIN_AT_ONCE, in_tailnet
from gateway.testkit.localapi import LATE_SECONDS
from gateway.testkit.tailnet_nodes import ME, Node, User
from tests.helpers.identity import ALICE


async def test_callers_with_one_tailnet_address_share_a_question(lookups, sim):
    sim.delay = 0.05
    answers = await asyncio.gather(*(lookups.whois("100.64.0.7", port) for port in range(1, 20)))
    assert {answer.UserProfile.LoginName for answer in answers} == {"alice@example.com"}
    assert len(sim.asked) == 1


async def test_callers_with_one_loopback_address_are_asked_for_one_by_one(lookups, sim):
    sim.proxied(1, ALICE)
    one, other = await asyncio.gather(lookups.whois("127.0.0.1", 1), lookups.whois("127.0.0.1", 2))
    assert (one.UserProfile.LoginName, other) == ("alice@example.com", None)


async def test_grants_of_a_service_are_a_question_of_their_own(lookups, sim):
    sim.delay = 0.05
    await asyncio.gather(lookups.whois("100.64.0.7", 1), lookups.whois("100.64.0.7", 1, "svc:ai"))
    assert len(sim.asked) == 2


async def test_a_tailnet_address_of_nobody_is_not_asked_again_at_once(lookups, sim, monkeypatch):
    for _ in range(3):
        assert await lookups.whois("100.64.0.99", 1) is None
    assert len(sim.asked) == 1
    sim.add(Node("new.example.ts.net", ("100.64.0.99",), User("bob@example.com")))
    later = time.monotonic() + lookups_module.NOBODY_SECONDS
    monkeypatch.setattr(lookups_module, "monotonic", lambda: later)
    assert (await lookups.whois("100.64.0.99", 1)).UserProfile.LoginName == "bob@example.com"


async def test_tailnet_callers_are_answered_while_strangers_wait(lookups, sim):
    """Check that tailnet callers are answered at once while tailscaled is busy with lookups for local processes.

    Each of these lookups takes 180 ms.
    """
    strangers = [asyncio.create_task(lookups.whois("127.0.0.1", port)) for port in range(1, 17)]
    await asyncio.sleep(0)
    answer = await lookups.whois("100.64.0.7", 1)
    assert answer.UserProfile.LoginName == "alice@example.com"
    assert sum(task.done() for task in strangers) <= UNCERTAIN_AT_ONCE
    sim.proxied(99, ALICE)
    assert (await lookups.whois("127.0.0.1", 99)).UserProfile.LoginName == "alice@example.com"
    assert await asyncio.gather(*strangers) == [None] * 16


async def test_a_question_does_not_wait_for_its_turn_for_ever(lookups, sim, monkeypatch):
    monkeypatch.setattr(lookups_module, "WAIT_SECONDS", 0.05)
    results = await asyncio.gather(*(lookups.whois("127.0.0.1", port) for port in range(1, 9)), return_exceptions=True)
    assert results.count(None) == UNCERTAIN_AT_ONCE
    assert sum(isinstance(result, LocalApiFailed) for result in results) == 8 - UNCERTAIN_AT_ONCE


async def test_a_caller_that_leaves_does_not_end_the_question_of_others(lookups, sim):
    sim.delay = 0.1
    leaving = asyncio.create_task(lookups.whois("100.64.0.7", 1))
    staying = asyncio.create_task(lookups.whois("100.64.0.7", 2))
    await asyncio.sleep(0)
    leaving.cancel()
    assert (await staying).UserProfile.LoginName == "alice@example.com"
    assert len(sim.asked) == 1


@pytest.mark.usefixtures("sim")
async def test_the_machine_itself_is_known_by_its_tailnet_address(lookups):
    assert (await lookups.machine()).UserProfile.LoginName == ME.user.login


def test_a_tailnet_has_two_networks():
    assert all(map(in_tailnet, ["100.64.0.1", "100.127.255.255", "fd7a:115c:a1e0::1", "::ffff:100.64.0.1"]))
    assert not any(map(in_tailnet, ["127.0.0.1", "100.63.0.1", "100.128.0.1", "fd7a:115c:a1e1::1", "::1"]))


async def test_callers_that_left_take_no_turn(lookups, sim):
    """Check that a caller is not delayed by lookups for other callers that have disconnected, even if there are many of
    them.
    """
    leaving = [asyncio.create_task(lookups.whois("127.0.0.1", port)) for port in range(1, 50)]
    await asyncio.sleep(0)
    for task in leaving:
        task.cancel()
    await asyncio.gather(*leaving, return_exceptions=True)
    sim.proxied(99, ALICE)
    # far less than the turns of all others would take
    answer = await asyncio.wait_for(lookups.whois("127.0.0.1", 99), 10 * LATE_SECONDS)
    assert answer.UserProfile.LoginName == "alice@example.com"


async def test_a_crowd_beyond_all_measure_is_refused_at_once(lookups, sim):
    waiting = [
        asyncio.create_task(lookups.whois("127.0.0.1", port)) for port in range(1, 1 + lookups_module.MAX_WAITING)
    ]
    await asyncio.sleep(0)
    with pytest.raises(LocalApiFailed, match="too many callers"):
        await lookups.whois("127.0.0.1", 999)
    assert (await lookups.whois("100.64.0.7", 1)).UserProfile.LoginName == "alice@example.com"
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
