"""A simulated provider that answers every request with bytes that a test has set."""

from contextlib import asynccontextmanager

from aiohttp import web

from tests.helpers.providers import provider


class Scripted:
    """A provider that gives the reply that a test has set last. `requests` has the bodies of all requests so far."""

    def __init__(self):
        self.url = ""
        self.body = b"{}"
        self.headers = {"content-type": "application/json"}
        self.status = 200
        self.cuts = ()
        self.requests = []

    def answer(self, body, content_type="application/json", status=200, cuts=(), **headers):
        """Set the next reply. The body is sent in pieces, which end at the offsets in `cuts`."""
        self.body, self.status, self.cuts = body, status, sorted(cuts)
        self.headers = {"content-type": content_type, **headers}

    async def _answer(self, request):
        self.requests.append(await request.read())
        if not self.cuts:
            return web.Response(body=self.body, status=self.status, headers=self.headers)
        response = web.StreamResponse(status=self.status, headers=self.headers)
        await response.prepare(request)
        for start, end in zip([0, *self.cuts], [*self.cuts, len(self.body)], strict=True):
            await response.write(self.body[start:end])
        return response


@asynccontextmanager
async def scripted():
    answers = Scripted()
    async with provider(answers._answer) as answers.url:
        yield answers
