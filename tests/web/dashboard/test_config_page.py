"""Tests of the page Configuration: what it shows, what it checks and saves, conflicting saves, earlier versions, and
who may use it.
"""

import asyncio
import io
import json
import re
import stat
from html import unescape

import pytest

from gateway.config.history import HISTORY, KEPT, History, Version
from tests.helpers.gateway import CAP
from tests.web.admin.conftest import CANARY, SECRETS, TEXT, from_file
from tests.web.dashboard.application import ADMIN, USER

EDIT = ("65536", "131072")


class Page:
    """The page of a gateway with a configuration file, as a browser without a script uses it."""

    def __init__(self, served):
        self.served = served
        self.path = served.path

    async def request(self, method, path, *, data=None, headers=None):
        options = {"data": data, "headers": headers, "allow_redirects": False}
        async with self.served.session.request(method, self.served.url + path, **options) as reply:
            html = await reply.text()
        self.served.heard.append(html.encode())
        return reply, html

    async def open(self, path="/ui/config"):
        _, html = await self.request("GET", path)
        return html

    async def send(self, html, step, text=None, **fields):
        """Send the form of a page with the text `text` in the editor. If `text` is None, the editor's present text is
        sent.
        """
        form = {name: unescape(value) for name, value in re.findall(r'name="(etag|reviewed)" value="(.*?)"', html)}
        text = editor_text(html) if text is None else text
        # a browser sends a form with these line ends
        return await self.request("POST", "/ui/config", data={
            **form, "step": step, "text": re.sub(r"\r?\n", "\r\n", text), **fields,
        })  # fmt: skip

    async def save(self, text):
        """Save a text as a person does: open the page, look at the changes, save."""
        _, review = await self.send(await self.open(), "review", text)
        reply, html = await self.send(review, "save")
        assert reply.status == 303, html
        return review


def editor_text(html):
    return unescape(re.search(r"<textarea[^>]*>\n(.*?)</textarea>", html, re.DOTALL)[1])


def seen(html):
    """Return the text of a page without its HTML tags, and without the text in the editor."""
    html = re.sub(r"<textarea.*?</textarea>", "", html, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


@pytest.fixture
async def config(served):
    return Page(served)


async def test_the_page_shows_the_file_with_comments_and_without_keys(config):
    html = await config.open()
    text = editor_text(html)
    _, api = await config.served.config()
    assert text == api["config"]
    assert "/* from the vault */" in text
    assert not [secret for secret in SECRETS if secret in html]
    assert str(config.path) in seen(html)


async def test_a_text_is_checked_as_the_api_checks_it(config):
    html = await config.open()
    text = editor_text(html).replace('"cost_basis"', '"costbasis"').replace('"role": "admin"', '"role": "amdin"')
    _, html = await config.send(html, "check", text)
    _, answer = await config.served.validate(text)
    assert len(answer["errors"]) == 3
    page = seen(html)
    assert "3 findings. A text with findings is not saved." in page
    for error in answer["errors"]:
        assert f"Line {error['line']}, column {error['column']} : {error['path']} : {error['message']}" in page
    assert '"costbasis": "bedrock-us",' in page
    assert editor_text(html) == text
    assert config.path.read_text() == TEXT


async def test_a_change_is_shown_before_it_is_saved(config):
    html = await config.open()
    _, review = await config.send(html, "review", editor_text(html).replace(*EDIT))
    page = seen(review)
    assert "server.limits.body_bytes changes from 65536 to 131072" in page
    assert '18 − removed: "server"' in page
    assert '18 + added: "server"' in page
    assert config.path.read_text() == TEXT
    reply, _ = await config.send(review, "save")
    assert (reply.status, reply.headers["location"]) == (303, "/ui/config?saved=1")
    assert config.path.read_text() == TEXT.replace(*EDIT)
    assert config.served.running.gateway.runtime.config.server.limits.body_bytes == 131072
    assert config.served.running.gateway.runtime.config.providers["bedrock"].apikey.value == CANARY
    assert "Saved. The new configuration is in use." in seen(await config.open("/ui/config?saved=1"))


async def test_a_text_that_was_not_reviewed_is_shown_and_not_saved(config):
    html = await config.open()
    text = editor_text(html).replace(*EDIT)
    for page, changed in ((html, text), ((await config.send(html, "review", text))[1], text + "// one more\n")):
        reply, shown = await config.send(page, "save", changed)
        assert (reply.status, "What a save changes" in shown) == (200, True)
    assert config.path.read_text() == TEXT


async def test_a_new_key_is_saved_and_shown_as_another_mark(config):
    html = await config.open()
    text = editor_text(html)
    mark = re.search(r'"apikey": "(redacted:\w+)", /\*', text)[1]
    _, review = await config.send(html, "review", text.replace(f'"{mark}", /*', '"sk-a-quite-new-key-0001", /*'))
    assert re.search(r'apikey changes from "redacted:\w{8}…" to "redacted:\w{8}…"', seen(review))
    assert "sk-a-quite-new-key" not in seen(review)
    assert seen(review).count("removed:") == seen(review).count("added:") == 1
    reply, _ = await config.send(review, "save")
    assert reply.status == 303
    assert '"sk-a-quite-new-key-0001", /* from the vault */' in config.path.read_text()
    assert "sk-a-quite-new-key" not in await config.open()


async def test_a_comment_alone_changes_no_setting(config):
    html = await config.open()
    _, review = await config.send(html, "review", editor_text(html) + "// the end\n")
    assert "Only comments or the layout change. No setting changes." in seen(review)
    _, review = await config.send(html, "review")
    assert "The text is that of the file." in seen(review)
    assert 'value="save"' not in review


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"role": "admin"', '"role": "user"', "would no longer be an admin"),
        ("{", "[", "expected"),
        ('"bedrock-us"', "redacted:" + "0" * 32, "expected"),
    ],
)
async def test_a_text_with_a_fault_is_never_saved(config, old, new, said):
    html = await config.open()
    _, review = await config.send(html, "review", editor_text(html).replace(old, new, 1))
    assert said in seen(review)
    assert 'value="save"' not in review
    reply, _ = await config.send(review, "save")
    assert reply.status in {200, 422}
    assert config.path.read_text() == TEXT


async def test_two_editors_do_not_overwrite_each_other(config):
    first = await config.open()
    _, review = await config.send(first, "review", editor_text(first).replace(*EDIT))
    await config.save(editor_text(first).replace("nobody listens there", "somebody was faster"))
    reply, conflict = await config.send(review, "save")
    page = seen(conflict)
    assert reply.status == 409
    assert "The file has changed since you began, last by (loopback)" in page
    assert "somebody was faster" in unescape(re.search(r'id="present-text"><code>(.*?)</code>', conflict, re.DOTALL)[1])
    assert "131072" in editor_text(conflict)
    assert "somebody was faster" in config.path.read_text()
    # the second editor takes over what the first one did
    both = editor_text(conflict).replace("nobody listens there", "somebody was faster")
    _, review = await config.send(conflict, "review", both)
    assert (await config.send(review, "save"))[0].status == 303
    assert "somebody was faster" in config.path.read_text()
    assert "131072" in config.path.read_text()


async def test_a_file_that_changes_during_a_save_is_a_conflict(config):
    html = await config.open()
    _, review = await config.send(html, "review", editor_text(html).replace(*EDIT))
    config.path.write_text(TEXT + "// by hand\n")
    reply, conflict = await config.send(review, "save")
    assert reply.status == 409
    assert "The file is not what is in use. the file has changed and is not taken over yet" in seen(conflict)
    assert config.path.read_text() == TEXT + "// by hand\n"


async def test_an_earlier_version_is_opened_reviewed_and_saved(config):
    await config.save(editor_text(await config.open()).replace(*EDIT))
    html = await config.open()
    assert "(loopback) server.limits.body_bytes present" in seen(html)
    assert "start of the gateway first version Open" in seen(html)
    (link,) = re.findall(r'href="(/ui/config\?version=[^"]*)"', html)
    earlier = await config.open(link)
    assert "body_bytes changes from 131072 to 65536" in seen(earlier)
    reply, _ = await config.send(earlier, "save")
    assert reply.status == 303
    assert config.path.read_text() == TEXT
    assert (await config.open()).count(
        '<span class="chip good">present</span>'
    ) == 2  # the first version has the same text


async def test_an_earlier_version_is_saved_with_the_present_key(config):
    text = editor_text(await config.open())
    mark = re.search(r'"apikey": "(redacted:\w+)", /\*', text)[1]
    # the comment with the old key goes, and the key is replaced
    lines = [line for line in text.splitlines() if "is in use since May" not in line]
    await config.save("\n".join(lines).replace(f'"{mark}", /*', '"sk-a-quite-new-key-0001", /*') + "\n")
    await config.save(editor_text(await config.open()).replace(*EDIT))
    links = re.findall(r'href="(/ui/config\?version=[^"]*)"', await config.open())
    earlier = await config.open(links[0])
    assert "No findings." in seen(earlier)
    assert (await config.send(earlier, "save"))[0].status == 303
    assert config.served.running.gateway.runtime.config.providers["bedrock"].apikey.value == "sk-a-quite-new-key-0001"
    # a mark in a comment has no present key: the finding says so, and nothing is lost
    assert "stands for no key of the current file" in seen(await config.open(links[1]))


async def test_the_files_of_the_history_have_no_key_and_are_private(config):
    await config.save(editor_text(await config.open()).replace(*EDIT))
    folder = config.path.parent / "state" / HISTORY
    files = sorted(folder.iterdir())
    assert len(files) == 2
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    kept = [json.loads(file.read_text()) for file in files]
    assert [version["who"] for version in kept] == ["start", "(loopback)"]
    assert not [secret for secret in SECRETS for version in kept if secret in version["text"]]


async def test_an_edit_of_the_file_is_a_version_too(config):
    config.path.write_text(TEXT.replace(*EDIT))
    await config.served.reloader.reload()
    assert "an edit of the file server.limits.body_bytes present" in seen(await config.open())


def test_the_history_keeps_the_last_versions(tmp_path):
    history = History(tmp_path / "history")
    assert (history.changes(), history.last_etag(), history.version("x")) == ([], "", None)
    for number in range(KEPT + 5):
        history.add(Version(at=float(number), who="a", etag=f"{number:032x}", changed=(), text=str(number)))
    changes = history.changes()
    assert [change.at for _, change in changes] == [float(number) for number in range(KEPT + 4, 4, -1)]
    name, newest = changes[0]
    assert history.version(name).text == str(int(newest.at))
    (tmp_path / "history" / f"{name}.json").write_text("{")
    assert len(history.changes()) == KEPT - 1
    assert history.version(name) is None
    assert history.version("../../etc/passwd") is None


async def test_a_history_that_cannot_be_written_delays_no_save(config):
    config.served.reloader.history = History(config.path / "no-folder")
    await config.save(editor_text(await config.open()).replace(*EDIT))
    assert config.path.read_text() == TEXT.replace(*EDIT)
    assert await config.served.until("config.history_failed")


async def test_a_read_only_file_is_shown_with_the_reason(config):
    config.path.chmod(0o444)
    html = await config.open()
    assert "This page can only show the file." in seen(html)
    assert "is read-only; edit it where it is mounted or copied from" in seen(html)
    assert " readonly>" in html
    assert '<button name="step"' not in html
    etag, reviewed = (re.search(rf'name="{name}" value="(.*?)"', html)[1] for name in ("etag", "reviewed"))
    assert (etag != "", reviewed) == (True, "")
    text = editor_text(html).replace(*EDIT)
    _, review = await config.send(html, "review", text)
    reply, html = await config.send(review, "save", text)
    assert reply.status == 409
    assert "Nothing was saved." in seen(html)
    assert config.path.read_text() == TEXT


async def test_a_file_with_other_line_ends_keeps_them(config_file):
    config_file.write_bytes(TEXT.replace("\n", "\r\n").encode())
    async with from_file(config_file) as served:
        page = Page(served)
        await page.save(editor_text(await page.open()).replace("\r\n", "\n").replace(*EDIT))
        assert config_file.read_bytes() == TEXT.replace(*EDIT).replace("\n", "\r\n").encode()


async def test_another_sites_form_and_wrong_forms_are_refused(config):
    html = await config.open()
    form = {"step": "review", "etag": "x", "text": "{}"}
    reply, _ = await config.request("POST", "/ui/config", data=form, headers={"Origin": "http://evil.example"})
    assert reply.status == 403
    reply, _ = await config.request("POST", "/ui/config", data=form, headers={"Sec-Fetch-Site": "cross-site"})
    assert reply.status == 403
    for data, said in (
        ({**form, "step": "drop"}, 'step: "drop" is none of check, review, save'),
        ({f"a{number}": "" for number in range(30)}, "more than 10 fields"),
        (io.BytesIO(b"text=" + b"x" * 5_000_000), "larger than 4194304 bytes"),
    ):
        reply, page = await config.request("POST", "/ui/config", data=data)
        assert (reply.status, said in seen(page)) == (400, True), seen(page)
    reply, page = await config.request("GET", "/ui/config?version=1")
    assert reply.status == 404
    assert editor_text(html)


async def test_hostile_text_is_shown_as_text(config):
    nasty = "</textarea><img src=x onerror=alert(1)>\u202e"
    html = await config.open()
    text = editor_text(html).replace("nobody listens there", nasty)
    _, review = await config.send(html, "review", text)
    assert "<img" not in review
    assert editor_text(review) == text


@pytest.mark.parametrize(("login", "status"), [(USER, 403), ("nobody@example.com", 403), (ADMIN, 409)])
async def test_only_an_admin_sees_the_page(client, login, status):
    headers = {"x-test-login": login}
    async with client.get("/ui/config", headers=headers) as reply:
        html = await reply.text()
        assert reply.status == status, html
    async with client.post("/ui/config", data={"step": "save", "text": "{}"}, headers=headers) as reply:
        assert reply.status == status
    async with client.get("/ui/", headers=headers) as reply:
        assert ("/ui/config" in await reply.text()) == (login == ADMIN)
    if status == 409:
        assert "the configuration was not read from a file" in seen(html)


async def test_saves_at_once_lose_no_text(config):
    html = await config.open()
    texts = [editor_text(html).replace("nobody listens there", f"saver {number}") for number in range(3)]
    reviews = [(await config.send(html, "review", text))[1] for text in texts]
    replies = await asyncio.gather(*(config.send(review, "save") for review in reviews))
    assert sorted(reply.status for reply, _ in replies) == [303, 409, 409]
    assert f'"{CAP}"' in config.path.read_text()
