"""Tests of the clean-up of a call: every function is called, the last one first, whatever the others raise."""

import asyncio

import pytest

from gateway.call.clean_up import CleanUp


def failing(message):
    raise RuntimeError(message)


async def test_the_functions_are_called_in_reverse_order():
    order, clean_up = [], CleanUp()
    clean_up.callback(order.append, "first")

    async def second():
        await asyncio.sleep(0)
        order.append("second")

    clean_up.push_async_callback(second)
    clean_up.callback(order.append, "third")
    await clean_up.aclose()
    assert order == ["third", "second", "first"]


async def test_the_functions_are_called_once():
    order, clean_up = [], CleanUp()
    clean_up.callback(order.append, "once")
    await clean_up.aclose()
    await clean_up.aclose()
    assert order == ["once"]


async def test_functions_after_a_failure_are_called_too():
    order, clean_up = [], CleanUp()
    clean_up.callback(order.append, "first")
    clean_up.callback(failing, "the last failure")
    clean_up.callback(order.append, "second")
    clean_up.callback(failing, "the first failure")
    with pytest.raises(RuntimeError, match="the last failure") as raised:
        await clean_up.aclose()
    assert order == ["second", "first"]
    assert str(raised.value.__context__) == "the first failure"


async def test_functions_after_a_cancellation_are_called():
    order, clean_up = [], CleanUp()
    clean_up.callback(order.append, "first")
    clean_up.push_async_callback(asyncio.Event().wait)
    closing = asyncio.create_task(clean_up.aclose())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert order == ["first"]
