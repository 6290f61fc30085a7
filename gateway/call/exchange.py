"""The state of one HTTP exchange: a client's request for a call, and the gateway's response."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import msgspec

from gateway.call.capture import Capture
from gateway.call.chain import Call, Inbound
from gateway.call.early_stream import EarlyStream
from gateway.contract.errors import Refused


class Exchange(msgspec.Struct):
    """The state of one HTTP request and its response."""

    inbound: Inbound
    params: Mapping[str, str]
    """The parameters in the path of the request."""
    ended: Refused | asyncio.CancelledError | None
    """The exception with which the guard ended the call: `Refused`, or `CancelledError` if the client disconnected
    before it was identified. It is None if the guard let the request pass.
    """
    call: Call | None = None
    """The call. It is None until the request is parsed."""
    capture: Capture | None = None
    """The copies of the bodies. The value is None if bodies are not kept."""
    early: EarlyStream | None = None
    """Sends the response's head early if the provider's first event is late. None if the call is not streamed."""
    begun: bool = False
    """Whether the server has begun to write the events of a stream. Headers and pings that were sent early do not
    count.
    """
    finished: bool = False
    """Whether the record has been written."""

    def captured(self, headers: Mapping[str, str], body: bytes = b"") -> None:
        """Copy the response's headers and `body` to `capture`, if there is one. The body of a stream is not passed
        here.
        """
        if self.capture is not None:
            self.capture.replied(headers)
            self.capture.feed(body)
