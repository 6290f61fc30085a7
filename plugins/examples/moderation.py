"""A filter that sends each prompt to a moderation service, and refuses the prompts that the service flags.

The service gets {"text": "…"} and answers {"flagged": true, "reason": "…"}. A service on a private address must be
listed in `server.fetch.private_hosts`.

    "plugins": { "moderation": { "url": "https://moderation.example.com/v1/check" } }
"""

from gateway.contract import filter as filters
from gateway.contract.filter import blocked

api = 1
blocks = True


class Settings(filters.Settings):
    url: str


def open(call, settings):
    return Moderation(call.http, settings.url)


class Moderation:
    def __init__(self, http, url):
        self.http = http
        self.url = url

    async def request(self, asked):
        text = "\n".join(text.text for text in asked.texts if text.role == "user")
        reply = await self.http.send("POST", self.url, json={"text": text})
        if reply.status != 200:
            raise ConnectionError(f"the moderation service answered with status {reply.status}")
        verdict = reply.json()
        if verdict["flagged"]:
            raise blocked("moderation", verdict["reason"])


def samples():
    return [Settings(url="https://moderation.example.com/v1/check")]
