"""HTTP responses that a browser saves as a CSV file."""

from __future__ import annotations

import re
from typing import Final

from aiohttp import web

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9.-]+")


def csv_response(name: str, body: bytes) -> web.Response:
    """Return the response with a CSV file. `name` is the file's name without its ending."""
    headers = {
        "cache-control": "no-store",
        "content-disposition": f'attachment; filename="{_UNSAFE.sub("-", name)}.csv"',
    }
    return web.Response(body=body, content_type="text/csv", charset="utf-8", headers=headers)
