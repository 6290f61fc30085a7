"""Tests of the log of configuration changes. There is one line for each change, with the author and the changed paths,
but without values.
"""

from gateway.config.document import watch
from tests.helpers.gateway import CAP
from tests.helpers.waiting import eventually
from tests.web.admin.conftest import CANARY, TEXT


async def test_a_save_is_logged_with_who_and_what_and_no_value(served):
    before, answer = await served.config()
    text = answer["config"].replace('"cost_basis": "bedrock-us"', '"cost_basis": "bedrock", "name": "a name"')
    response, _ = await served.put(text)
    (line,) = await served.until("config.changed")
    assert line["who"] == "(loopback)"
    assert line["request_id"] == response.headers["x-request-id"]
    assert line["changed"] == ["providers.bedrock.cost_basis", "providers.bedrock.name"]
    assert f'"{line["etag_before"]}"' == before.headers["etag"]
    assert f'"{line["etag_after"]}"' == response.headers["etag"]
    assert "a name" not in str(line)


async def test_an_edit_of_the_file_is_logged_as_the_files(served):
    served.path.write_text(TEXT.replace(f'"apikey": "{CANARY}"', '"apikey": "another-key"').replace("X-Team", "X-My"))
    await served.reloader.reload()
    (line,) = await served.until("config.changed")
    assert (line["who"], line["request_id"]) == ("file", "")
    assert line["changed"] == ["providers.bedrock.apikey", "providers.bedrock.add_headers[0]"]


async def test_a_change_of_comments_is_a_change_of_no_path(served):
    _, answer = await served.config()
    await served.put(answer["config"].replace("nobody listens", "somebody listens"))
    (line,) = await served.until("config.changed")
    assert line["changed"] == []


async def test_a_key_that_is_rotated_in_its_own_file_is_a_change(served):
    key = served.path.with_name("key")
    key.write_text("first-key")
    served.path.write_text(TEXT.replace(f'"apikey": "{CANARY}"', '"apikey": "file:key"'))
    await served.reloader.reload()
    key.write_text("second-key")
    await served.reloader.reload()
    _, line = await served.until("config.changed", 2)
    assert line["changed"] == ["providers.bedrock.apikey"]
    assert line["etag_before"] == line["etag_after"]


async def test_a_reload_of_the_same_file_is_no_change(served):
    await served.reloader.reload()
    await served.until("config.reloaded")
    assert not served.lines.entries("config.changed")


async def test_the_watcher_does_not_take_over_again_what_was_saved(followed, monkeypatch):
    looks, stamps = [], watch.stamps

    def looking(files):
        looks.append(stamps(files))
        return looks[-1]

    monkeypatch.setattr(watch, "stamps", looking)
    _, answer = await followed.config()
    for word in ("somebody", "everybody"):
        response, answer = await followed.put(answer["config"].replace(" listens there", f" {word} listens there"))
        assert response.status == 200
    await followed.until("config.changed", 2)
    # what the watcher finds changed it looks at again until it is still; then it would take it over
    for _ in range(4):
        before = len(looks)
        await eventually(lambda: len(looks) > before)  # noqa: B023 (awaited at once)
    await followed.log_is_written()
    assert len(followed.lines.entries("config.reloaded")) == 2
    followed.path.write_text(TEXT)
    lines = await followed.until("config.changed", 3)
    assert [line["who"] for line in lines] == ["(loopback)", "(loopback)", "file"]
    assert len(followed.lines.entries("config.reloaded")) == 3


async def test_a_refused_save_is_logged_with_places_and_no_values(served):
    _, answer = await served.config()
    await served.put(answer["config"].replace('"models": "**"', '"models": "nonesuch-provider/**"'))
    (line,) = await served.until("config.save_refused")
    assert line["paths"] == [f'grants[0].app."{CAP}"[1].models']
    assert line["request_id"].startswith("req_")
    assert not served.lines.entries("config.changed")
