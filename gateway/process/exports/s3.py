"""A bucket in S3, or in a compatible store, as the destination of an export.

- An object is sent in one request (PutObject), so readers never see an incomplete object.
- An object that may exist already is only written if it does not exist (`If-None-Match`). A store that does not know
  this condition gets the object again, under the same name.
- Requests are signed with the keys of the configuration, or with credentials of AWS's chain.
- Requests have an MD5 hash of the object, without which S3 refuses objects for a bucket with Object Lock.

Sources: "PutObject", "Error responses" and "Authenticating Requests (AWS Signature Version 4)" in the API reference of
Amazon S3.
"""

from __future__ import annotations

import asyncio
import re
from base64 import b64encode
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from hashlib import md5, sha256
from html import unescape
from typing import Final, NamedTuple
from urllib.parse import quote, urlsplit

from gateway.config.credentials import AwsSettings
from gateway.config.exporters import S3Bucket
from gateway.config.model import Provider, Timeouts
from gateway.contract.errors import GatewayError
from gateway.contract.flag import UpstreamRequest
from gateway.process.exports.export import ExportFailed
from gateway.upstream.client import Upstream
from gateway.upstream.credentials.aws_access import AwsAccess
from gateway.upstream.credentials.clock import Clock
from gateway.upstream.credentials.renewal import CredentialFailed
from gateway.upstream.credentials.sigv4 import S3, Credentials, Signable, Signer
from gateway.upstream.http1.targets import base
from gateway.upstream.subjects import Subject

MAX_REPLY: Final = 64 * 1024
"""Maximum number of bytes of a reply. An error has a few hundred."""
MAX_REASON: Final = 300
"""Maximum number of characters of a message from S3 that an error quotes."""
_TIMEOUTS: Final = Timeouts(connect_seconds=10, head_seconds=300, read_seconds=60)
_GATEWAY: Final = Subject("irisgate", "")
"""Takes the place of a caller when credentials are obtained, because an export has no caller. In the configured name of
a role's session, for example, `<user>` is replaced by `irisgate`.
"""
_SHA256: Final = "x-amz-content-sha256"
_EXISTS: Final = 412
_NOT_IMPLEMENTED: Final = 501
_REFUSALS: Final = (400, 401, 403)
"""Statuses with which S3 refuses a signature. The clock or the credentials may be wrong."""
_CODE: Final = re.compile(r"<Code>([^<]{1,200})</Code>")
_MESSAGE: Final = re.compile(r"<Message>([^<]{1,2000})</Message>")


class _Reply(NamedTuple):
    status: int
    date: str
    reason: str
    """The error code and the message of S3. If the bucket is in another region, the text also names this region."""


class S3Target:
    """A bucket. Nothing is sent before the first object."""

    def __init__(self, bucket: S3Bucket) -> None:
        self._bucket = bucket
        self._upstream = Upstream()
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="s3-credentials")
        self._clock = Clock(lambda _: None)
        self._access = self._fixed = None
        if bucket.secret:
            own = Credentials(bucket.access_key_id, bucket.secret.value, source="the key of the configuration")
            self._fixed = Signer(own, bucket.region, S3)
        else:
            self._access = AwsAccess(_settings(bucket), self._clock, self._threads, lambda _: None)

    async def put(self, name: str, data: bytes, *, again: bool) -> None:
        """Write an object. If `again` is true and the bucket already has an object of this name, leave that object as
        it is.

        Raises `ExportFailed` if the object cannot be written.
        """
        reply = await self._put(name, data, {"if-none-match": "*"} if again else {})
        if again and reply.status == _NOT_IMPLEMENTED:
            reply = await self._put(name, data, {})
        if not (reply.status // 100 == 2 or (again and reply.status == _EXISTS)):
            raise ExportFailed(f"{self._bucket.url} refuses {name}: {reply.status} {reply.reason}")

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        await self._upstream.close()

    async def _put(self, name: str, data: bytes, conditions: dict[str, str]) -> _Reply:
        """Send an object, and return S3's reply.

        If S3 refuses the signature, the request is repeated once in two cases: there are other credentials, or the date
        in the reply shows that this machine's clock is wrong.
        """
        hashes = await asyncio.to_thread(_hashes, data)
        signer = await self._signer()
        reply = await self._send(name, data, hashes, signer, conditions)
        if reply.status in _REFUSALS and await self._has_other(signer, reply.date):
            reply = await self._send(name, data, hashes, await self._signer(), conditions)
        return reply

    async def _signer(self) -> Signer:
        if self._access is None:
            assert self._fixed is not None
            return self._fixed
        try:
            signer = await self._access.credential(_GATEWAY).get()
        except CredentialFailed as failure:
            raise ExportFailed(f"{self._bucket.url}: {failure.message}; {failure.remedy}") from None
        assert isinstance(signer, Signer)
        return signer

    async def _has_other(self, signer: Signer, date: str) -> bool:
        if self._access is None:
            return self._clock.learn(date)
        return await self._access.has_other(_GATEWAY, signer, date)

    async def _send(
        self, name: str, data: bytes, hashes: dict[str, str], signer: Signer, conditions: dict[str, str]
    ) -> _Reply:
        origin, path = address(self._bucket, name)
        where = base(origin)
        target = where.target(path, "")
        signable = Signable("PUT", where.authority, target, headers=hashes, payload=hashes[_SHA256])
        headers = {
            "content-type": "application/octet-stream",
            **conditions,
            **hashes,
            **signer.headers(signable, self._clock.now()),
        }
        provider = Provider(self._bucket.url, origin, authorities=self._bucket.authorities)
        try:
            response = await self._upstream.open(provider, UpstreamRequest("PUT", path, data), headers, _TIMEOUTS)
            try:
                body = await response.read(MAX_REPLY, lambda _: None)
            finally:
                response.close()
        except GatewayError as error:
            raise ExportFailed(str(error)) from None
        return _reply(response.head.status, response.head.headers, body.decode("utf-8", "replace"))


def _hashes(data: bytes) -> dict[str, str]:
    """Return the headers with the hashes of an object's content: `content-md5` and `x-amz-content-sha256`."""
    # S3 compares this hash with the object, and does not use it for security
    md5_of_data = md5(data, usedforsecurity=False).digest()
    return {"content-md5": b64encode(md5_of_data).decode(), _SHA256: sha256(data).hexdigest()}


def address(bucket: S3Bucket, name: str) -> tuple[str, str]:
    """Return the base URL of requests to a bucket, and the path of an object, which is appended to this URL.

    The path is percent-encoded.
    """
    key = quote(f"{bucket.prefix}/{name}" if bucket.prefix else name, safe="/-._~")
    if bucket.is_path_style:
        return bucket.endpoint, f"/{quote(bucket.name, safe='-._~')}/{key}"
    url = urlsplit(bucket.endpoint)
    return f"{url.scheme}://{bucket.name}.{url.netloc}{url.path}", f"/{key}"


def _settings(bucket: S3Bucket) -> AwsSettings:
    return AwsSettings(bucket.region, S3, bucket.profile, bucket.assume_role)


def _reply(status: int, headers: Mapping[str, str], text: str) -> _Reply:
    found = [pattern.search(text) for pattern in (_CODE, _MESSAGE)]
    region = headers.get("x-amz-bucket-region", "")
    words = [unescape(match[1]) for match in found if match is not None]
    line = ": ".join(words) + (f"; the bucket is in the region {region}" if region and status // 100 != 2 else "")
    return _Reply(status, headers.get("date", ""), "".join(c if c.isprintable() else " " for c in line)[:MAX_REASON])
