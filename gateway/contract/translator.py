"""The protocol of translators, which convert the requests and replies of one dialect into another.

Plugins import these protocols from `flag.py`, with the rest of the contract.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from gateway.contract.codecs import Drop
from gateway.contract.messages import ClientRequest, Event, Target
from gateway.contract.samples import Sample


class Translation(Protocol):
    """The translation of one attempt: the translated request, and methods that translate the reply's events."""

    request: ClientRequest

    def feed(self, event: Event) -> Sequence[Event]: ...

    def whole(self, body: bytes) -> bytes: ...

    def close(self) -> Sequence[Event]:
        """Return the translated events that are known only at the stream's end."""


class Translator(Protocol):
    """A translator of requests from a client's dialect to an upstream dialect, and of replies in reverse."""

    @property
    def api(self) -> int: ...

    @property
    def loses(self) -> int:
        """The loss of the translation as a number.

        If a provider can be reached by several conversions, the one with the lowest number is used. The numbers of the
        built-in translators are in `conversions.json`, from 20 to 40.
        """

    @property
    def operations(self) -> tuple[str, ...]: ...

    def open(self, request: ClientRequest, target: Target, drop: Drop) -> Translation:
        """Return the translation of one attempt. Raises `Refused` if dropping a field would change the meaning."""

    def samples(self) -> Sequence[Sample]:
        """Return samples with which `irisgate plugins check` tests the translator.

        A running gateway does not call this.
        """
