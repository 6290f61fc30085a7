"""Tests of the cache of encoded replies that list models or providers.

The tests check when a list is encoded again, which requests share this work, and how many lists are cached.
"""

import asyncio
import threading

import pytest

from gateway.call import encoded_lists
from gateway.call.encoded_lists import EncodedLists
from gateway.contract.errors import GatewayError


class Maker:
    """A callable that returns the body of a list, and counts its calls in `made`.

    If `waits` is true, a call returns only after the event `may_end` is set.
    """

    def __init__(self, body=b"list", waits=False):
        self.made, self._body = 0, body
        self.may_end = threading.Event()
        if not waits:
            self.may_end.set()

    def __call__(self):
        self.made += 1
        assert self.may_end.wait(10)
        return self._body


@pytest.mark.parametrize("is_long", [False, True])
async def test_a_list_is_made_once(is_long):
    lists, make = EncodedLists(), Maker()
    assert [await lists.get("a", make, is_long=is_long) for _ in range(3)] == [b"list"] * 3
    assert make.made == 1
    await lists.get("b", make, is_long=is_long)
    assert make.made == 2


async def test_requests_for_one_long_list_share_the_work():
    lists, make = EncodedLists(), Maker(waits=True)
    asking = [asyncio.create_task(lists.get("a", make, is_long=True)) for _ in range(5)]
    await asyncio.sleep(0.01)
    asking[0].cancel()  # its client has left, and the others still get the list
    make.may_end.set()
    assert await asyncio.gather(*asking[1:]) == [b"list"] * 4
    assert make.made == 1


async def test_the_lists_that_were_asked_for_last_are_kept(monkeypatch):
    monkeypatch.setattr(encoded_lists, "MAX_BYTES", 8)
    lists, make = EncodedLists(), Maker()
    for key in "abac":  # the third list is one too many, and b was asked for before a
        await lists.get(key, make, is_long=False)
    assert make.made == 3
    for key in "acb":
        await lists.get(key, make, is_long=False)
    assert make.made == 4


async def test_a_list_that_is_too_large_is_not_kept(monkeypatch):
    monkeypatch.setattr(encoded_lists, "MAX_BYTES", 3)
    lists, make = EncodedLists(), Maker()
    assert [await lists.get("a", make, is_long=True) for _ in range(2)] == [b"list"] * 2
    assert make.made == 2


async def test_a_list_that_takes_too_long_is_an_error_and_no_end_of_the_work(monkeypatch):
    monkeypatch.setattr(encoded_lists, "SECONDS", 0.02)
    lists, make = EncodedLists(), Maker(waits=True)
    with pytest.raises(GatewayError, match=r"the list of models was not made in 0\.02 seconds"):
        await lists.get("a", make, is_long=True)
    monkeypatch.setattr(encoded_lists, "SECONDS", 10)
    again = asyncio.create_task(lists.get("a", make, is_long=True))
    await asyncio.sleep(0.01)
    make.may_end.set()
    assert (await again, make.made) == (b"list", 1)


@pytest.mark.parametrize("is_long", [False, True])
async def test_an_error_is_raised_and_not_kept(is_long):
    lists, make = EncodedLists(), Maker()

    def fails():
        raise ValueError("no list")

    with pytest.raises(ValueError, match="no list"):
        await lists.get("a", fails, is_long=is_long)
    assert await lists.get("a", make, is_long=is_long) == b"list"
