"""The page Connect: the settings of a client, with the address of this gateway and a model that the reader may use.

`tests/tools/client_settings.py` makes the settings (`clients.json`) from `deploy/clients.md`.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Any, Final, NamedTuple

import orjson
from aiohttp import web

from gateway.web.admin.sessions import scope
from gateway.web.dashboard.frame import page
from gateway.web.dashboard.samples import PLACEHOLDER, granted
from gateway.web.query_parameters import BadQuery, check_names

_ADDRESS: Final = re.compile(r"http://ai(?![\w.-])")
"""Pattern for the sample address in clients' settings. The page replaces it by this gateway's address."""
_MODEL: Final = re.compile(
    r"us\.anthropic\.claude-sonnet-4-5-20250929-v1:0|us\.anthropic\.claude-haiku-4-5-20251001-v1:0|gemini-2\.5-pro"
)
"""Pattern for the sample models in clients' settings. The page replaces them by a model that the reader may use."""

_TWICE: Final = re.compile(r'(\n *)("[^"\n]+": \{\}),\1\2(?=\n)')
"""Pattern for two equal JSON lines in a row whose value is {}. They occur if one model replaces two sample models."""


class Part(NamedTuple):
    """A part of the settings of a client: a paragraph of text, or a block of code."""

    code: str
    texts: tuple[str, ...]
    """The pieces of a paragraph, alternately plain text and code. The first piece is plain text."""


async def connect(request: web.Request) -> web.Response:
    scope(request)
    check_names(request.query, ("client", "model"))
    names = [client["name"] for client in _clients()]
    client = request.query.get("client") or names[0]
    if client not in names:
        raise BadQuery(f'client: "{client[:50]}" is none of the clients on this page')
    models = list(dict.fromkeys(model for _, model in await granted(request)))
    model = request.query.get("model") or (models[0] if models else PLACEHOLDER)
    # the model in the address becomes a part of commands for a shell, so only granted names are allowed
    if model not in models and model != PLACEHOLDER:
        raise BadQuery(f'model: "{model[:50]}" is not granted to you; the page Access says why')
    base = f"{request.scheme}://{request.host}"
    parts = [_part(part, base, model) for part in _clients()[names.index(client)]["parts"]]
    return await page(
        request, "connect.html",
        clients=names, client=client, models=models, model=model, parts=parts, base=base,
    )  # fmt: skip


@cache
def _clients() -> list[dict[str, Any]]:
    clients: list[dict[str, Any]] = orjson.loads(files("gateway.web.dashboard").joinpath("clients.json").read_bytes())
    return clients


def _part(part: dict[str, Any], base: str, model: str) -> Part:
    if code := part.get("code"):
        own = _MODEL.sub(lambda _: model, _ADDRESS.sub(lambda _: base, code))
        return Part(_TWICE.sub(r"\1\2", own), ())
    return Part("", tuple(_ADDRESS.sub(lambda _: base, text) for text in part["texts"]))
