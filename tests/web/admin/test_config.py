"""Tests of the configuration over HTTP: shown without keys, and saved completely or not at all."""

import asyncio
import io
import json

import pytest

from gateway.config.document import atomic_file
from gateway.process import prepared
from tests.helpers.gateway import CAP, EVERYTHING, HAIKU, gate
from tests.helpers.processes import served as served_process
from tests.web.admin.conftest import CANARY, TEXT, from_file

JSON = {"Content-Type": "application/json"}


def is_problem(response, body, status):
    assert (response.status, response.content_type) == (status, "application/problem+json"), body
    assert body["status"] == status
    assert {"type", "title", "detail"} <= body.keys()
    assert response.headers["x-request-id"].startswith("req_")
    return body["detail"]


async def test_the_text_is_shown_with_comments_and_layout_and_without_keys(served):
    response, body = await served.config()
    assert response.status == 200
    assert response.headers["cache-control"] == "no-store"
    assert body["error"] == ""
    lines, answer = TEXT.splitlines(), body["config"].splitlines()
    assert len(lines) == len(answer)
    changed = [at for at, (line, other) in enumerate(zip(lines, answer, strict=True)) if line != other]
    assert [lines[at].split()[:2] for at in changed] == [
        ['"apikey":', f'"{CANARY}",'],
        ["//", '"apikey":'],
        ['"add_headers":', '["X-Team-Key:'],
        ["//", CANARY],
    ]
    assert "/* from the vault */" in body["config"]


async def test_what_was_shown_can_be_saved_and_leaves_the_file_as_it_was(served):
    _, answer = await served.config()
    response, body = await served.put(answer["config"])
    assert (response.status, body) == (200, answer)
    assert served.path.read_text() == TEXT


async def test_a_change_is_saved_taken_over_and_answered_with_its_tag(served):
    before, answer = await served.config()
    response, body = await served.put(answer["config"].replace('"bedrock":', '"renamed":', 1))
    assert response.status == 200, body
    assert response.headers["etag"] != before.headers["etag"]
    assert served.path.read_text() == TEXT.replace('"bedrock":', '"renamed":', 1)
    provider = served.running.gateway.runtime.config.providers["renamed"]
    assert provider.apikey.value == CANARY
    again, answer = await served.config()
    assert (again.headers["etag"], answer) == (response.headers["etag"], body)


async def test_a_tag_that_is_still_right_needs_no_body(served):
    first, _ = await served.config()
    for tag, status in ((first.headers["etag"], 304), (f"W/{first.headers['etag']}", 304), ('"other"', 200)):
        response, _ = await served.config(**{"If-None-Match": tag})
        assert (response.status, response.headers["etag"]) == (status, first.headers["etag"])


async def test_a_save_says_what_it_is_based_on(served):
    current = (await served.config())[0].headers["etag"]
    response, body = await served.put(TEXT, "")
    assert "If-Match is missing" in is_problem(response, body, 428)
    for tag in ('"another"', f"W/{current}", '"*"', "nonsense"):
        response, body = await served.put(TEXT, tag)
        is_problem(response, body, 412)
    for tag in ("*", f'"another", {current}'):
        response, _ = await served.put(TEXT, tag)
        assert response.status == 200
    assert len(served.lines.entries("config.save_refused")) == 5


async def test_a_file_that_somebody_has_edited_is_not_overwritten(served):
    tag = (await served.config())[0].headers["etag"]
    served.path.write_text(TEXT + "// by hand\n")
    response, body = await served.put(TEXT, tag)
    is_problem(response, body, 412)
    assert served.path.read_text().endswith("// by hand\n")
    _, answer = await served.config()
    assert "not taken over yet" in answer["error"]


async def test_of_two_savers_at_once_one_wins(served):
    _, answer = await served.config()
    tag = (await served.config())[0].headers["etag"]
    texts = [answer["config"].replace("nobody listens there", f"saver {number}") for number in range(2)]
    answers = await asyncio.gather(*(served.put(text, tag) for text in texts))
    assert sorted(response.status for response, _ in answers) == [200, 412]
    winner = next(number for number, (response, _) in enumerate(answers) if response.status == 200)
    assert f"saver {winner}" in served.path.read_text()


@pytest.mark.parametrize(
    ("old", "new", "path", "place", "message"),
    [
        ('"bedrock-us"', "7", "providers.bedrock.cost_basis", (9, 7), "must be a string"),
        ('"cost_basis"', '"costbasis"', "providers.bedrock.costbasis", (9, 7), "unknown key"),
        ('"role": "admin"', '"role": "amdin"', f'grants[0].app."{CAP}"[0].role', (16, 63), "is not one of"),
        ("// the team's gateway", "{", "", (2, 1), "expected a key"),
    ],
)
async def test_every_fault_of_a_text_has_its_place_and_saves_nothing(served, old, new, path, place, message):
    """Check that every fault of a text is reported with its position, and that nothing is saved."""
    _, answer = await served.config()
    text = answer["config"].replace(old, new)
    response, body = await served.put(text)
    is_problem(response, body, 422)
    entry = next(error for error in body["errors"] if error["path"] == path)
    assert (entry["line"], entry["column"]) == place
    assert message in entry["message"]
    _, judged = await served.validate(text)
    assert judged == {"valid": False, "errors": body["errors"]}
    assert served.path.read_text() == TEXT
    (line,) = await served.until("config.save_refused")
    assert (line["who"], line["status"]) == ("(loopback)", 422)
    assert path in line["paths"]


async def test_a_column_is_that_of_the_text_as_it_was_sent(served):
    _, answer = await served.config()
    text = answer["config"].replace(", /* from the vault */", ', "nme": 1, /* from the vault */')
    _, body = await served.put(text)
    (error,) = body["errors"]
    line = text.splitlines()[error["line"] - 1]
    assert line[error["column"] - 1 :].startswith('"nme"')


@pytest.mark.parametrize("text", ["", " \n", "// nothing\n", "{ /* nothing */ }"])
async def test_an_empty_configuration_is_not_saved(served, text):
    response, body = await served.put(text)
    is_problem(response, body, 422)
    assert [error["message"] for error in body["errors"]] == ["config must not be empty"]


async def test_nobody_saves_what_takes_the_right_to_save_from_them(served):
    _, answer = await served.config()
    text = answer["config"].replace('"src": ["*"]', '"src": ["boss@example.com"]')
    response, body = await served.put(text)
    assert '"(loopback)" would no longer be an admin' in is_problem(response, body, 422)
    assert (await served.validate(text))[1]["valid"] is False
    assert served.path.read_text() == TEXT


async def test_a_mark_of_no_known_key_is_refused_at_its_place(served):
    _, answer = await served.config()
    text = answer["config"].replace('"cost_basis"', '"name": "redacted:' + "0" * 32 + '", "cost_basis"')
    response, body = await served.put(text)
    is_problem(response, body, 422)
    (error,) = body["errors"]
    assert (error["line"], error["column"]) == (9, 16)
    assert "stands for no key" in error["message"]


async def test_a_key_cannot_be_read_by_moving_its_mark(served):
    """Check that a secret's placeholder is refused in every field that other callers can see or that error messages
    quote.
    """
    _, answer = await served.config()
    mark = next(word for word in answer["config"].split('"') if word.startswith("redacted:"))
    header = answer["config"].partition("X-Team-Key: ")[2][:41]
    for text in (
        answer["config"].replace('"cost_basis"', f'"name": "{header}", "cost_basis"'),
        answer["config"].replace('"cost_basis": "bedrock-us"', f'"cost_basis": "{header}"'),
        answer["config"].replace('"cost_basis"', f'"{header}"'),
        answer["config"].replace(f'"{mark}"', f'"file:{header}"'),
        answer["config"].replace(f'"{mark}"', f'"env:{header}"'),
        answer["config"].replace("http://127.0.0.1:9", f"http://127.0.0.1:9/{header}"),
    ):
        response, body = await served.put(text)
        is_problem(response, body, 422)
        assert "may only stand in place of a key" in body["errors"][0]["message"]
    # this one stands in a comment and so may stand anywhere, but no answer and no line of the log says it
    for text in (
        answer["config"].replace('"cost_basis"', f'"{mark}": 1, "cost_basis"'),
        answer["config"].replace('"models": [', f'"authorization": "{mark}", "models": ['),
    ):
        assert (await served.put(text))[0].status == 422


async def test_keys_may_be_moved_to_another_provider(served):
    _, answer = await served.config()
    document = answer["config"].partition('"bedrock": {')
    second = document[2].partition("\n    },")[0].replace(HAIKU, "us.amazon.nova-lite-v1:0")
    text = answer["config"].replace('"bedrock": {', '"second": {' + second + '\n    },\n    "bedrock": {')
    response, body = await served.put(text)
    assert response.status == 200, body
    providers = served.running.gateway.runtime.config.providers.values()
    assert {provider.apikey.value for provider in providers} == {CANARY}


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", JSON, 400),
        (b"[]", JSON, 400),
        (b'{"config": 1}', JSON, 400),
        (b'{"config": "\\ud800"}', JSON, 400),
        (b"{}", {"Content-Type": "text/plain"}, 415),
        (b"config=x", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
        (b"{}", {**JSON, "Content-Encoding": "gzip"}, 415),
        (b" " * (1024 * 1024 + 1), JSON, 413),
    ],
)
async def test_a_body_that_is_no_text_of_a_configuration_is_refused(served, body, headers, status):
    for method, path in (("PUT", "/aperture/config"), ("POST", "/aperture/config:validate")):
        response, answer = await served.ask(method, path, data=io.BytesIO(body), headers={"If-Match": "*", **headers})
        is_problem(response, answer, status)
    async with served.session.put(
        served.url + "/aperture/config", data=chunks(body), headers={"If-Match": "*", **headers}
    ) as response:
        assert response.status == status


async def chunks(body):
    yield body


async def test_a_form_of_another_page_reaches_nothing(served):
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        response, body = await served.put(TEXT, "*", **headers)
        is_problem(response, body, 403)


async def test_what_nobody_serves_below_aperture_is_a_problem_too(served):
    assert is_problem(*await served.ask("GET", "/aperture/nothing"), 404)
    response, body = await served.ask("DELETE", "/aperture/config")
    is_problem(response, body, 405)
    assert "PUT" in response.headers["allow"]
    other, body = await served.ask("GET", "/nothing")
    assert (other.content_type, list(body)) == ("application/json", ["error"])


async def test_who_is_no_admin_sees_and_changes_nothing(config_file):
    config_file.write_text(TEXT.replace('"role": "admin"', '"role": "user"'))
    async with from_file(config_file) as served:
        is_problem(*await served.config(), 403)
        is_problem(*await served.put(TEXT, "*"), 403)
        is_problem(*await served.validate(TEXT), 403)
        (line,) = await served.until("config.save_refused")
        assert line["reason"] == "access denied: only an admin may see or change the configuration"


async def test_a_configuration_without_a_file_is_not_shown_or_changed(tmp_path):
    """Check that a configuration that was not read from a file is neither shown nor changed."""
    async with gate(tmp_path, {}, grants=EVERYTHING) as gw:
        reply = await gw.get("/aperture/config")
        assert (reply.status, reply.headers["content-type"]) == (409, "application/problem+json")
        assert "not read from a file" in await reply.text()


async def test_a_broken_file_is_told_of_beside_the_last_good_text(served):
    before, answer = await served.config()
    served.path.write_text(TEXT.replace("{", "{{", 1))
    await served.reloader.reload()
    response, body = await served.config(**{"If-None-Match": before.headers["etag"]})
    assert response.status == 200
    assert body["config"] == answer["config"]
    assert "expected a key" in body["error"]
    # it is repaired by saving over it, with the marks of the last good one
    response, body = await served.put(body["config"])
    assert (response.status, body) == (200, answer)
    assert served.path.read_text() == TEXT


async def test_a_file_that_was_refused_is_shown_as_it_is(served):
    served.path.write_text(TEXT.replace('"cost_basis": "bedrock-us"', '"cost_basis": 7'))
    await served.reloader.reload()
    _, body = await served.config()
    assert '"cost_basis": 7' in body["config"]
    assert "providers.bedrock.cost_basis" in body["error"]


async def test_a_file_that_is_gone_cannot_be_saved_over(served):
    served.path.unlink()
    is_problem(*await served.config(), 409)
    is_problem(*await served.put(TEXT, "*"), 409)


@pytest.mark.parametrize("which", ["file", "folder"])
async def test_what_is_mounted_read_only_is_edited_elsewhere(served, which):
    place = served.path if which == "file" else served.path.parent
    mode = place.stat().st_mode
    place.chmod(mode & ~0o222)
    response, body = await served.put(TEXT)
    place.chmod(mode)
    assert "edit it where it is mounted" in is_problem(response, body, 409)
    assert served.path.read_text() == TEXT


@pytest.mark.parametrize(("errno", "status"), [("ENOSPC", 507), ("EROFS", 409), ("EBUSY", 409), ("EIO", 500)])
async def test_a_disk_that_fails_leaves_the_old_file_and_nothing_beside_it(served, monkeypatch, errno, status):
    def failing(*_):
        raise OSError(getattr(atomic_file.errno, errno), "the disk says no")

    beside = sorted(served.path.parent.iterdir())
    monkeypatch.setattr(atomic_file.os, "replace", failing)
    _, answer = await served.config()
    response, body = await served.put(answer["config"].replace("nobody", "somebody"))
    is_problem(response, body, status)
    assert served.path.read_text() == TEXT
    assert sorted(served.path.parent.iterdir()) == beside
    assert not served.lines.entries("config.changed")


async def test_what_only_fails_once_it_is_written_is_taken_back(served, monkeypatch):
    """Check that a save is undone if the reload fails, because a secret's file was removed after the check."""
    key = served.path.with_name("key")
    key.write_text("sk-of-the-file")
    sync = atomic_file._sync

    def late(folder):
        sync(folder)
        key.unlink(missing_ok=True)

    monkeypatch.setattr(atomic_file, "_sync", late)
    _, answer = await served.config()
    mark = next(word for word in answer["config"].split('"') if word.startswith("redacted:"))
    response, body = await served.put(answer["config"].replace(f'"{mark}"', '"file:key"'))
    is_problem(response, body, 422)
    assert body["errors"][0]["path"] == "providers.bedrock.apikey"
    assert served.path.read_text() == TEXT
    assert (await served.config())[1] == answer
    assert served.running.gateway.runtime.config.providers["bedrock"].apikey.value == CANARY


async def test_what_somebody_else_has_written_meanwhile_is_not_taken_back(served, monkeypatch):
    sync = atomic_file._sync

    def late(folder):
        sync(folder)
        served.path.write_text("{ // by hand, and broken")

    monkeypatch.setattr(atomic_file, "_sync", late)
    _, answer = await served.config()
    is_problem(*await served.put(answer["config"]), 422)
    assert served.path.read_text() == "{ // by hand, and broken"
    assert served.running.gateway.runtime.config.providers["bedrock"].apikey.value == CANARY


async def test_what_cannot_be_made_ready_is_taken_back(served, monkeypatch):
    def failing(*_):
        raise RuntimeError("a table is damaged")

    monkeypatch.setattr(prepared, "runtime", failing)
    _, answer = await served.config()
    response, body = await served.put(answer["config"].replace("nobody", "somebody"))
    assert "RuntimeError" in is_problem(response, body, 500)
    assert served.path.read_text() == TEXT
    await served.until("config.reload_failed")


async def test_a_save_that_names_a_secrets_file_shows_only_the_name(served):
    """Check that the reply to a save shows the name of a secret's file, but not its content."""
    key = served.path.with_name("key")
    key.write_text("sk-of-the-file")
    key.chmod(0o600)
    _, answer = await served.config()
    mark = next(word for word in answer["config"].split('"') if word.startswith("redacted:"))
    text = answer["config"].replace(f'"{mark}"', '"file:key"').replace("nobody", "sk-of-the-file is read by nobody")
    response, body = await served.put(text)
    assert response.status == 200
    assert '"file:key"' in body["config"]
    assert b"sk-of-the-file" not in b"".join(served.heard)
    assert "sk-of-the-file is read" in served.path.read_text()


async def test_tags_and_marks_stay_valid_over_a_restart(config_file, tmp_path):
    answer = []
    for _ in range(2):
        async with (
            served_process(tmp_path, "serve", "--config", config_file, "--state", tmp_path / "state") as running,
            running.session.get(running.url + "/aperture/config") as reply,
        ):
            answer.append((reply.headers["etag"], (await reply.json())["config"]))
            await running.end()
    assert answer[0] == answer[1]


async def test_the_description_needs_no_role_and_names_every_operation(config_file):
    config_file.write_text(TEXT.replace('"src": ["*"]', '"src": ["nobody@example.com"]'))
    async with from_file(config_file) as served:
        response, body = await served.ask("GET", "/aperture/openapi.json")
        assert (response.status, body["openapi"]) == (200, "3.1.0")
        assert {"/aperture/config", "/aperture/config:validate", "/api/explain"} <= body["paths"].keys()
        assert json.dumps(body).count("operationId") == sum(map(len, body["paths"].values()))
