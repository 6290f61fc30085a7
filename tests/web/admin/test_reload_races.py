"""Tests of two changes of the configuration at the same time: saves through the API, and changes of the file."""

import asyncio
import threading
from contextlib import contextmanager

import pytest

from gateway.call.context import Who
from gateway.config.document import atomic_file
from gateway.process import reload
from gateway.process.reload import Reloader
from tests.helpers.waiting import eventually
from tests.web.admin.conftest import CANARY, TEXT, from_file


@contextmanager
def held(monkeypatch):
    """Stop a save after it has written its file, until the test lets it continue."""
    reached, may_go_on, sync = threading.Event(), threading.Event(), atomic_file._sync

    def waiting(folder):
        sync(folder)
        reached.set()
        assert may_go_on.wait(5)

    monkeypatch.setattr(atomic_file, "_sync", waiting)
    try:
        yield reached, may_go_on
    finally:
        may_go_on.set()


def saving(served, text):
    return asyncio.create_task(served.reloader.save(text, TEXT.encode(), Who("me")))


async def test_a_save_is_done_to_the_end_when_its_caller_is_gone(served, monkeypatch):
    with held(monkeypatch) as (reached, may_go_on):
        task = saving(served, TEXT.replace('"bedrock":', '"renamed":'))
        await asyncio.to_thread(reached.wait, 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        may_go_on.set()
        (line,) = await served.until("config.changed")
    assert line["who"] == "me"
    assert list(served.running.gateway.runtime.config.providers) == ["renamed"]


async def test_nothing_is_reloaded_while_a_save_is_under_way(served, monkeypatch):
    begun_after_the_save, reload = [], Reloader._reload

    async def begin(reloader):
        begun_after_the_save.append(may_go_on.is_set())
        await reload(reloader)

    with held(monkeypatch) as (reached, may_go_on):
        task = saving(served, TEXT.replace('"bedrock":', '"renamed":'))
        await asyncio.to_thread(reached.wait, 5)
        monkeypatch.setattr(Reloader, "_reload", begin)
        reloading = asyncio.create_task(served.reloader.reload())
        await asyncio.sleep(0)  # the task runs until it waits
        may_go_on.set()
        await asyncio.gather(task, reloading)
    assert begun_after_the_save == [True]
    lines = await served.until("config.changed")
    assert [line["who"] for line in lines] == ["me"]


async def test_a_key_that_is_rotated_while_a_save_fails_is_taken(config_file, monkeypatch):
    """Check that the gateway uses the new key if a key file changes while a failed save is undone.

    The key file is empty during the save, so the save fails. It has the new key when the old configuration is restored.
    """
    key, sync = config_file.with_name("key"), atomic_file._sync
    key.write_text("first-key")
    key.chmod(0o600)
    config_file.write_text(TEXT.replace(CANARY, "file:key", 1))
    contents = iter(("", "second-key"))

    def rotating(folder):
        sync(folder)
        key.write_text(next(contents))

    async with from_file(config_file, follow=True) as served:
        _, answer = await served.config()
        monkeypatch.setattr(atomic_file, "_sync", rotating)
        assert (await served.put(answer["config"] + "// more\n"))[0].status == 422
        gateway = served.running.gateway
        await eventually(lambda: gateway.runtime.config.providers["bedrock"].apikey.value == "second-key")


async def test_two_documents_are_compared_beside_the_event_loop(served, monkeypatch):
    seen = []

    def comparing(before, after):
        seen.append(threading.current_thread())
        return ["a.path"]

    monkeypatch.setattr(reload, "changed_paths", comparing)
    await served.reloader.reload()
    (line,) = await served.until("config.changed")
    assert line["changed"] == ["a.path"]
    assert seen != [threading.main_thread()]


async def test_a_key_that_has_slipped_into_a_name_is_in_no_line_of_a_change(served):
    served.path.write_text(TEXT.replace('"cost_basis"', f'"{CANARY}": 1, "cost_basis"'))
    await served.reloader.reload()
    (line,) = await served.until("config.changed")
    assert line["changed"] == ["providers.bedrock.[redacted]"]


async def test_a_new_key_that_has_slipped_into_a_name_is_in_no_line_of_a_refusal(served):
    new = "corp-gateway-key-1"
    text = TEXT.replace(CANARY, new).replace(
        '"cost_basis": "bedrock-us"', f'"{new}": 1, "{CANARY}": 1, "cost_basis": 7'
    )
    served.path.write_text(text)
    await served.reloader.reload()
    await served.until("config.refused")
    data = served.lines.data + served.running.gateway.config_error.encode()
    assert (new.encode() in data, b"[redacted]" in data) == (False, True)
