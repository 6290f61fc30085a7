r"""Samples with which `irisgate plugins check NAME` tests a plugin. The plugin's optional `samples()` returns them.

A sample of a compatibility flag (the plugin of an API format) or of a translator is a request with its replies:

    def samples():
        return [
            Sample(
                name="hello",
                request=b'{"model": "m", "prompt": "hi"}',
                whole=b'{"text": "hello", "usage": {"read": 1, "written": 2}}',
                stream=b'data: {"text": "hello", "usage": {"read": 1, "written": 2}}\n\ndata: [DONE]\n\n',
            )
        ]

A sample of a filter has settings, and texts that the filter changes or blocks:

    def samples():
        return [FilterSample(Settings(word="falcon"), texts=("a falcon flies",))]

The texts are optional for a filter that acts on the words in its settings, or that changes no text of replies. A
running gateway never calls `samples`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.contract.messages import Headers
from gateway.contract.settings import Settings


@dataclass(frozen=True, slots=True)
class Sample:
    r"""A client's request, and the provider's replies to it. For a translator, they are in different dialects.

    >>> Sample(
    ...     request=b'{"model": "small", "prompt": "hi"}',
    ...     whole=b'{"text": "hello"}',
    ...     stream=b'data: {"text": "hello"}\n\ndata: [DONE]\n\n',
    ... ).name
    'sample'
    """

    request: bytes
    """The body of the client's request."""
    whole: bytes = b""
    """The provider's whole reply; b"" if the format has none."""
    stream: bytes = b""
    """The provider's streamed reply with the same content; b"" if the format has none."""
    name: str = "sample"
    """The name of the sample in the report of `irisgate plugins check NAME`."""
    path: str = ""
    """The path of the request. If it is "", the test uses the path of the first route for `generate`."""
    headers: Headers = field(default_factory=dict)
    """The headers of the request, by names in lower case."""
    neutral: tuple[str, ...] = ()
    """JSON pointers of fields that the translator may ignore without a call of `drop`, such as `/metadata`.

    `*` in a pointer stands for any key or index, as in `/messages/*/name`."""
    options: Settings | None = None
    """The provider's options for the flag, an instance of its class `Options`; None for the default options."""


@dataclass(frozen=True, slots=True)
class FilterSample:
    """Settings of a filter, and texts of replies that the filter changes or blocks with these settings.

    >>> class Settings(filters.Settings):
    ...     word: str
    >>> FilterSample(Settings(word="falcon"), texts=("a falcon flies",)).texts
    ('a falcon flies',)
    """

    settings: Settings
    texts: tuple[str, ...] = ()
    """Texts with which the filter is tested. Each text is tried whole and in pieces. It is tried as an answer, as
    thinking, and in the arguments of a tool call."""
