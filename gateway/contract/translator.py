"""The protocol of translators, which convert requests and replies from one dialect (format of bodies) to another.

Plugins import the protocols from `flag.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from gateway.contract.codecs import Drop
from gateway.contract.messages import ClientRequest, Event, Target
from gateway.contract.samples import Sample


class Translation(Protocol):
    """The translation for one attempt (one request to one provider).

    `request` is the translated request. The methods translate the reply.

    >>> class Shouting:
    ...     def __init__(self, request):
    ...         self.request = request
    ...     def feed(self, event):
    ...         return [Event(event.kind, event.payload.upper())]
    ...     def whole(self, body):
    ...         return body.upper()
    ...     def close(self):
    ...         return []
    >>> Shouting(request).whole(b'{"text": "hi"}')
    b'{"TEXT": "HI"}'
    """

    request: ClientRequest

    def feed(self, event: Event) -> Sequence[Event]:
        """Translate one event from the provider's dialect. Return the resulting events in the client's dialect."""

    def whole(self, body: bytes) -> bytes:
        """Return an unstreamed reply as JSON of the client's dialect. Raises `BadFrame` if it cannot be read."""

    def close(self) -> Sequence[Event]:
        """Return the events that can be translated only at the end of the stream."""


class Translator(Protocol):
    """A translator between two dialects (formats of bodies). It translates requests from the client's dialect to the
    provider's dialect, and replies from the provider's dialect to the client's.

    >>> api = 1
    >>> operations = ("generate",)
    >>> loses = 40
    """

    @property
    def api(self) -> int:
        """The major version of the contract for which the translator is written.

        >>> api = 1
        """

    @property
    def loses(self) -> int:
        """A number for the loss of the translation. The built-in translators have 20 to 40 (`conversions.json`).

        If several conversions are possible, the gateway uses the one with the lowest number.

        >>> loses = 40
        """

    @property
    def operations(self) -> tuple[str, ...]:
        """The operations that can be translated.

        >>> operations = ("generate",)
        """

    def open(self, request: ClientRequest, target: Target, drop: Drop) -> Translation:
        """Return the translation for one attempt, which sends the request to `target`.

        If a field has no counterpart in the target's dialect, leave it out and report it with `drop`. If this would
        change the meaning of the request, raise `Refused`.

        >>> class Renaming:
        ...     def __init__(self, request):
        ...         self.request = request
        ...     def feed(self, event):
        ...         return [event]
        ...     def whole(self, body):
        ...         return body.replace(b'"output"', b'"text"')
        ...     def close(self):
        ...         return []
        >>> def open(request, target, drop):
        ...     body = {"model": target.model, "input": request.top.decode("prompt")}
        ...     return Renaming(request.with_body(target.dialect, body))
        >>> open(request, target, drop).request.top.body
        b'{"model":"acme-1","input":"hi"}'
        """

    def samples(self) -> Sequence[Sample]:
        """Return requests and replies with which `irisgate plugins check NAME` tests the translator.

        >>> def samples():
        ...     return [Sample(request=b'{"model": "small", "prompt": "hi"}', whole=b'{"output": "hello"}')]
        >>> len(samples())
        1
        """
