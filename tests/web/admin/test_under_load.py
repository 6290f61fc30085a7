"""Tests of a hundred changes of the configuration under constant load. A third of the changes is invalid."""

import asyncio
import json
import re

from gateway.testkit.bedrock import BedrockSim
from tests.helpers.gateway import EVERYTHING, HAIKU, NOVA, bedrock
from tests.helpers.waiting import eventually
from tests.web.admin.conftest import from_file

CHANGES = 100
CLIENTS = 4
ASKED = {"model": HAIKU, "messages": [{"role": "user", "content": "hello"}]}
WAYS = ("api", "file", "api", "api", "signal", "api", "api", "signal", "api", "api", "signal")
FAULTS = (
    lambda text: text.replace("{", "{{", 1),
    lambda text: text.replace('"bearer"', '"beaer"'),
    lambda text: text[: len(text) // 2],
    lambda text: text.replace('"models"', '"models": 1, "models"'),
)


class Watching(BedrockSim):
    """A provider that records with which configuration each request was made.

    Three values of a request tell this: a number in the path, the key, and a header.
    """

    def __init__(self):
        super().__init__()
        self.arrived = []

    async def respond(self, seen, request):
        match = re.fullmatch(r"/g(\d+)(/.*)", seen.path)
        key = seen.headers["authorization"].removeprefix("Bearer key-of-")
        self.arrived.append((match[1], key, seen.headers["x-generation"]))
        seen.path = match[2]
        return await super().respond(seen, request)


def text_of(simulated, number):
    provider = bedrock(f"{simulated.url}/g{number}", models=[HAIKU] if number % 2 else [HAIKU, NOVA])
    provider |= {"apikey": f"key-of-{number}", "add_headers": [f"X-Generation: {number}"]}
    listeners = {"listeners": [{"listen": "127.0.0.1:0"}]}
    document = {"providers": {"b": provider}, "grants": EVERYTHING, "server": listeners}
    return f"// generation {number}\n{json.dumps(document, indent=2)}\n"


async def client(served, number, ended, answers):
    stream = bool(number % 2)
    while not ended.is_set():
        async with served.session.post(
            served.url + "/v1/chat/completions", json={**ASKED, "stream": stream}
        ) as response:
            body = await response.read()
        answers.append((response.status == 200 and (not stream or body.endswith(b"[DONE]\n\n"))) or body)


async def change(served, way, text, sound, tag):
    """Save a text as the configuration, and wait until the gateway has accepted or refused it.

    `way` is "api" (the API saves the text), "file" (the file is written) or "signal" (the file is written, and a reload
    is requested). `sound` says whether the text is valid. Return the entity tag for the next save through the API, or
    None if the way is not "api".
    """
    if way == "api":
        response, body = await served.put(text, tag)
        assert response.status == (200 if sound else 422), body
        return response.headers.get("etag", tag)
    event = "config.changed" if sound else "config.refused"
    wanted = served.lines.count(event) + 1
    served.path.write_text(text)
    if way == "signal":
        served.reloader.reload_soon()
    await eventually(lambda: served.lines.count(event) >= wanted)
    return None


async def test_no_call_fails_and_none_mixes_two_configurations(tmp_path):
    path = tmp_path / "config.hujson"
    (tmp_path / "state").mkdir()
    async with Watching() as simulated:
        path.write_text(text_of(simulated, 0))
        async with from_file(path, follow=True) as served:
            ended, answers, good, tag = asyncio.Event(), [], [0], None
            clients = [asyncio.create_task(client(served, at, ended, answers)) for at in range(CLIENTS)]
            for number in range(1, CHANGES + 1):
                sound = number % 3 != 2
                text = text_of(simulated, number)
                if sound:
                    good.append(number)
                else:
                    text = FAULTS[number // 3 % len(FAULTS)](text)
                tag = await change(served, WAYS[number % len(WAYS)], text, sound, tag)
            ended.set()
            await asyncio.gather(*clients)

            async def is_last_used():
                """Make a call. Return whether it used the valid configuration that was saved last.

                The watcher of the file may need some time to read this configuration.
                """
                async with served.session.post(served.url + "/v1/chat/completions", json=ASKED) as response:
                    assert response.status == 200
                return simulated.arrived[-1][0] == str(good[-1])

            await eventually(is_last_used)
    assert [answer for answer in answers if answer is not True] == []
    assert len(answers) > CHANGES
    assert [seen for seen in simulated.arrived if len(set(seen)) > 1] == []
    used = {int(generation) for generation, _, _ in simulated.arrived}
    assert used <= set(good)
    assert len(used) > len(good) / 2
