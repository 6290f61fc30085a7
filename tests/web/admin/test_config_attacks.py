"""Tests of attacks through the configuration's HTTP API: attempts to read a key or to act with a lost role. They also
test that admins cannot lock themselves out.
"""

import asyncio
import json

import pytest

from gateway.config.document import atomic_file
from gateway.web.admin import config as api
from tests.helpers.gateway import HAIKU
from tests.web.admin.conftest import CANARY, TEXT, from_file

KEY = "corp-gateway-key-1"
"""A key that cannot be recognised by its prefix, as keys of well-known providers can."""


@pytest.fixture
async def keyed(config_file):
    config_file.write_text(TEXT.replace(CANARY, KEY))
    async with from_file(config_file) as running:
        yield running
        assert KEY.encode() not in b"".join(running.heard) + running.lines.data


def mark_of(text):
    return text.partition('"apikey": "')[2][:41]


async def test_a_key_that_is_rotated_is_not_shown_by_the_comment_that_names_it(keyed):
    _, answer = await keyed.config()
    response, body = await keyed.put(answer["config"].replace(mark_of(answer["config"]), "another-key-2", 1))
    assert response.status == 200, body
    assert keyed.running.gateway.runtime.config.providers["bedrock"].apikey.value == "another-key-2"
    assert KEY not in keyed.path.read_text()
    assert (await keyed.config())[1] == body


async def test_a_mark_in_a_new_comment_does_not_bring_the_key_back(keyed):
    _, answer = await keyed.config()
    mark = mark_of(answer["config"])
    text = answer["config"].replace(f'"apikey": "{mark}"', '"apikey": "another-key-2"').replace("nobody", f"{mark} ")
    response, body = await keyed.put(text)
    assert response.status == 200, body
    assert KEY not in keyed.path.read_text()


async def test_a_key_is_not_shown_to_others_as_the_password_of_a_url(keyed):
    _, answer = await keyed.config()
    for member in ('"description": "https://x:%s@h"', '"name": "https://%s@h"', '"models": ["https://x:%s@h"]'):
        text = answer["config"].replace(
            '"cost_basis"', f'{member.replace("%s", mark_of(answer["config"]))}, "cost_basis"'
        )
        response, body = await keyed.put(text)
        assert (response.status, body["errors"][0]["path"]) == (422, "")
    for page in ("/api/providers", "/v1/models"):
        await keyed.ask("GET", page)


async def test_the_environment_is_not_read_by_a_macro_that_others_see(served, monkeypatch):
    monkeypatch.setenv("OF_THE_GATEWAY", "environment-of-the-gateway")
    for old, new in (
        ('"cost_basis"', '"description": "${OF_THE_GATEWAY}", "cost_basis"'),
        (f'"{HAIKU}"', f'"{HAIKU}", "${{OF_THE_GATEWAY}}"'),
    ):
        response, body = await served.put(TEXT.replace(old, new, 1))
        assert response.status == 422
        assert "macros may only stand" in body["errors"][0]["message"]
    assert b"environment-of-the-gateway" not in b"".join(served.heard)


class Slow:
    """A request whose body arrives only when the test releases it."""

    @classmethod
    async def begin(cls, served, text, request="PUT /aperture/config"):
        held = cls()
        host, port = served.url.removeprefix("http://").split(":")
        held.body = json.dumps({"config": text}).encode()
        held.reader, held.writer = await asyncio.open_connection(host, int(port))
        head = f"{request} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nIf-Match: *\r\n"
        head += "Expect: 100-continue\r\n"
        held.writer.write(f"{head}Content-Length: {len(held.body)}\r\n\r\n".encode() + held.body[:10])
        assert await held.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        return held

    async def end(self, *, send=True):
        if send:
            self.writer.write(self.body[10:])
        line = await asyncio.wait_for(self.reader.readline(), 30)
        self.writer.close()
        return int(line.split()[1])


async def demote(served):
    served.path.write_text(TEXT.replace('"role": "admin"', '"role": "user"'))
    await served.reloader.reload()


async def test_who_loses_the_role_while_a_body_is_on_its_way_saves_nothing(served):
    held = await Slow.begin(served, TEXT)
    await demote(served)
    assert await held.end() == 403
    assert '"role": "user"' in served.path.read_text()
    assert (await served.config())[0].status == 403


async def test_who_loses_the_role_while_a_body_is_on_its_way_has_nothing_checked(served):
    """Check that a configuration is not checked if its sender loses the role admin while the request's body arrives.

    The findings would reveal files and variables of the gateway's machine.
    """
    held = await Slow.begin(served, TEXT, "POST /aperture/config:validate")
    await demote(served)
    assert await held.end() == 403


async def test_losing_the_role_while_a_save_waits_saves_nothing(served, monkeypatch):
    """Check that nothing is saved if the sender loses the role admin while the save waits for a lock.

    At this time, the sender's role and the text have already been checked once.
    """
    judged, may_go_on = asyncio.Event(), asyncio.Event()
    save = served.reloader.save

    async def late(*given):
        judged.set()
        await may_go_on.wait()
        await save(*given)

    monkeypatch.setattr(type(served.reloader), "save", lambda _, *given: late(*given))
    saving = asyncio.create_task(served.put(TEXT + "// more\n", "*"))
    await judged.wait()
    await demote(served)
    may_go_on.set()
    response, _ = await saving
    assert response.status == 403
    assert '"role": "user"' in served.path.read_text()


async def test_a_body_that_does_not_come_is_not_waited_for(served, monkeypatch):
    monkeypatch.setattr(api, "BODY_SECONDS", 0.2)
    held = await Slow.begin(served, TEXT)
    assert await held.end(send=False) == 408
    assert served.path.read_text() == TEXT


async def test_a_small_limit_of_bodies_can_be_made_larger_again(served):
    served.path.write_text(TEXT + f"// {'x' * 1000}\n")
    await served.reloader.reload()
    for old, new in (("65536", "1024"), ("1024", "65536")):
        _, answer = await served.config()
        response, body = await served.put(answer["config"].replace(old, new))
        assert response.status == 200, body


async def test_nobody_saves_what_no_longer_knows_the_name_by_which_they_came(served):
    _, answer = await served.config()
    named = {"Host": "ai.example.ts.net"}
    text = answer["config"].replace('"limits"', '"hosts": ["ai.example.ts.net", "ai"], "limits"')
    assert (await served.put(text))[0].status == 200
    tag = (await served.config())[0].headers["etag"]
    for hosts in ("", '"ai"', '"b.example"'):
        other = text.replace('"ai.example.ts.net", "ai"', hosts)
        response, body = await served.put(other, tag, **named)
        assert (response.status, body["errors"][0]["path"]) == (422, "server.hosts")
        assert '"ai.example.ts.net", as which you called' in body["detail"]
    # who came by an address is not shut out
    assert (await served.put(text.replace('"ai.example.ts.net", ', ""), tag))[0].status == 200


async def test_no_error_that_is_shown_holds_a_key_whoever_wrote_it(served):
    served.running.gateway.config_error = f"providers.{CANARY}: unknown key"
    _, body = await served.config()
    assert body["error"] == "providers.[redacted]: unknown key"


async def test_a_key_in_a_name_is_hidden_when_the_write_fails(config_file, monkeypatch):
    """Check that the error of a failed save shows no key, even if the configuration has the key as the name of a
    provider by mistake.

    The save fails after the configuration file was written.
    """
    secret, sync = config_file.with_name("key"), atomic_file._sync
    secret.write_text("sk-of-the-file")
    config_file.write_text(
        TEXT.replace(
            '"bedrock": {',
            f'"{CANARY}": {{"baseurl": "http://h", "models": ["m"], "cost_basis": "bedrock", "apikey": "file:key"}}, "bedrock": {{',
            1,
        )
    )

    def late(folder):
        sync(folder)
        secret.unlink(missing_ok=True)

    async with from_file(config_file) as served:
        monkeypatch.setattr(atomic_file, "_sync", late)
        _, answer = await served.config()
        response, body = await served.put(answer["config"])
        assert response.status == 422, body
        assert [error["path"] for error in body["errors"]] == ["providers.[redacted].apikey"]
        assert CANARY.encode() not in b"".join(served.heard) + served.lines.data


async def test_the_tag_says_whether_the_file_is_in_use_too(served):
    """Check that the configuration's entity tag changes if the gateway can no longer use the file, although the file's
    text is the same.

    A save with the earlier tag is refused. Here, the file names a key file that is deleted.
    """
    secret = served.path.with_name("key")
    secret.write_text("sk-of-the-file")
    served.path.write_text(TEXT.replace(f'"apikey": "{CANARY}"', '"apikey": "file:key"'))
    await served.reloader.reload()
    before, answer = await served.config()
    secret.unlink()
    await served.reloader.reload()
    after, broken = await served.config()
    assert (broken["config"], bool(broken["error"])) == (answer["config"], True)
    assert after.headers["etag"] != before.headers["etag"]
    assert (await served.put(TEXT, before.headers["etag"]))[0].status == 412


async def test_a_tag_tells_nothing_to_who_does_not_know_the_gateways_key(served):
    data = served.path.read_bytes()
    mine = served.reloader.etag(data)
    served.reloader.key = b"another key"
    assert served.reloader.etag(data) != mine
