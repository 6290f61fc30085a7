"""Sends a GET request to a running gateway, for commands such as `irisgate usage`. The answer is JSON or CSV."""

from __future__ import annotations

import json
from contextlib import closing
from http.client import HTTPException
from typing import Final
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, Request, build_opener

DEFAULT_URL: Final = "http://127.0.0.1:8080"
SECONDS: Final = 30.0
"""Maximum number of seconds to wait for the gateway's answer. An answer usually takes milliseconds."""
MAX_ANSWER: Final = 64 * 1024 * 1024
"""Maximum number of bytes of an answer. The gateway's longest answer has 5,000 rows and a few megabytes."""
MAX_REASON: Final = 300
"""Maximum number of characters of the gateway's error message that a command shows."""


class NoAnswer(Exception):
    """The error for a gateway that does not answer. The message gives the reason in one line."""


def ask(url: str, path: str) -> bytes:
    """Return the gateway's answer to a GET request. `path` may have a query.

    Raises `NoAnswer` if the URL is invalid, the gateway cannot be reached, or its answer is an error.
    """
    if not url.startswith(("http://", "https://")):
        raise NoAnswer(f"--url {url}: is no http or https URL; write one such as {DEFAULT_URL}")
    # no proxy is used, since the gateway would identify the proxy as the caller
    opener = build_opener(ProxyHandler({}))
    try:
        # inside `try`, since `Request` raises ValueError for an invalid URL
        request = Request(f"{url.rstrip('/')}{path}")  # noqa: S310 (http or https, above)
        with opener.open(request, timeout=SECONDS) as reply:
            body: bytes = reply.read(MAX_ANSWER + 1)
    except HTTPError as error:
        with closing(error):
            raise NoAnswer(f"{url} refuses: {_reason(error)}") from None
    except URLError as error:
        raise NoAnswer(f"{url} cannot be reached: {error.reason}") from None
    except (OSError, HTTPException, ValueError) as error:
        raise NoAnswer(f"{url} cannot be asked: {error or type(error).__name__}") from None
    if len(body) > MAX_ANSWER:
        raise NoAnswer(f"{url} answers with more than {MAX_ANSWER} bytes, so it is no answer of a gateway")
    return body


def _reason(error: HTTPError) -> str:
    """Return the message of a gateway's error response as one printable line, or the HTTP status if it has no
    message.
    """
    try:
        message = json.loads(error.read(MAX_ANSWER))["error"]
    except (ValueError, OSError, HTTPException, KeyError, TypeError):
        message = None
    message = message.get("message") if isinstance(message, dict) else message
    text = message if isinstance(message, str) else f"status {error.code}"
    return "".join(character if character.isprintable() else "?" for character in text[:MAX_REASON])
