"""A simulated S3: buckets whose objects are written by signed requests (PutObject).

Each request is checked: its signature (with botocore), the hash of its body, and its precondition `If-None-Match: *`. A
request may name the bucket in its path or in its host.

Sources: "PutObject" and "Error responses" in the API reference of Amazon S3.
"""

from __future__ import annotations

from base64 import b64encode
from collections import deque
from hashlib import md5, sha256
from typing import Final
from urllib.parse import unquote
from xml.sax.saxutils import escape

from aiohttp import web

from gateway.testkit.aws_account import AwsAccount, Unauthorized
from gateway.testkit.simulator import Refusal, Seen, Simulator

REGION: Final = "us-east-1"
_NO_MD5: Final = (
    "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters"
)
_CODES: Final = {
    # exception of bedrock-runtime: code of S3
    "MissingAuthenticationTokenException": "AccessDenied",
    "UnrecognizedClientException": "InvalidAccessKeyId",
    "ExpiredTokenException": "ExpiredToken",
    "InvalidSignatureException": "SignatureDoesNotMatch",
}


class S3Sim(Simulator):
    """A simulated S3 with the buckets of one account."""

    def __init__(self, account: AwsAccount, *buckets: str) -> None:
        super().__init__()
        self.account = account
        self.buckets: dict[str, dict[str, bytes]] = {name: {} for name in buckets}
        """The objects of each bucket, by key."""
        self.locked: set[str] = set()
        """The buckets with Object Lock and a default retention. Their objects need an MD5 hash."""
        self.refusals: deque[tuple[int, str]] = deque()
        """Statuses and codes of the errors with which the next requests are answered."""
        self.after: deque[bool] = deque()
        """One entry for each of the next requests: True if the connection breaks after the object is stored."""

    def failure(self, name: str, message: str) -> Refusal:
        return Refusal(500, {"code": name, "message": message})

    async def respond(self, seen: Seen, request: web.Request) -> web.StreamResponse:
        if self.refusals:
            return self._error(*self.refusals.popleft(), "it was told to")
        try:
            self.account.judge(seen, "s3", REGION)
        except Unauthorized as refusal:
            return self._error(403, _CODES[refusal.name], refusal.message)
        if seen.headers.get("x-amz-content-sha256") != sha256(seen.body).hexdigest():
            return self._error(400, "XAmzContentSHA256Mismatch", "The provided header does not match the body.")
        return self._put(seen, request)

    def _put(self, seen: Seen, request: web.Request) -> web.Response:
        label = seen.headers["host"].partition(".")[0]
        path = unquote(seen.path).removeprefix("/")
        bucket, key = (label, path) if label in self.buckets else path.split("/", 1)
        if seen.method != "PUT" or bucket not in self.buckets:
            return self._error(404, "NoSuchBucket", f"The specified bucket does not exist: {bucket}")
        if seen.headers.get("if-none-match") == "*" and key in self.buckets[bucket]:
            return self._error(
                412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold"
            )
        given = seen.headers.get("content-md5")
        if given is None and bucket in self.locked:
            return self._error(400, "InvalidRequest", _NO_MD5)
        if given is not None and given != b64encode(md5(seen.body, usedforsecurity=False).digest()).decode():
            return self._error(400, "BadDigest", "The Content-MD5 you specified did not match what we received.")
        self.buckets[bucket][key] = seen.body
        if self.after and self.after.popleft() and request.transport is not None:
            request.transport.abort()
        return web.Response(headers={"date": self.account.date})

    def _error(self, status: int, code: str, message: str) -> web.Response:
        text = f"<Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
        return web.Response(
            status=status, text=text, content_type="application/xml", headers={"date": self.account.date}
        )
