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

The `texts` can be left out in two cases:

- The filter changes no text of replies.
- The settings contain the words that the filter acts on, such as "falcon" above. The test then makes texts from them.

A running gateway never calls `samples`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.contract.messages import Headers
from gateway.contract.settings import Settings


@dataclass(frozen=True, slots=True)
class Sample:
    r"""A client's request, and the provider's replies. For a translator, request and replies have different dialects.

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
    """The provider's whole reply. It is b"" if the format has none."""
    stream: bytes = b""
    """The provider's streamed reply with the same content as `whole`. It is b"" if the format has none."""
    name: str = "sample"
    """The name of the sample in the report of `irisgate plugins check NAME`."""
    path: str = ""
    """The path of the request. If it is "", the request goes to the first route of the operation `generate`."""
    headers: Headers = field(default_factory=dict)
    """The headers of the request, by lower-case name."""
    neutral: tuple[str, ...] = ()
    """JSON pointers of request fields, such as `/metadata`, that the translator may leave out without calling `drop`.

    A `*` stands for any key or index: `/messages/*/name`.
    """
    options: Settings | None = None
    """The provider's options, as an instance of the plugin's class `Options`. It is None for the default options."""


@dataclass(frozen=True, slots=True)
class FilterSample:
    """Settings of a filter, and texts that the filter changes or blocks with these settings.

    >>> class Settings(filters.Settings):
    ...     word: str
    >>> FilterSample(Settings(word="falcon"), texts=("a falcon flies",)).texts
    ('a falcon flies',)
    """

    settings: Settings
    texts: tuple[str, ...] = ()
    """Texts with which the filter is tested: whole and in pieces, as an answer, as thinking and in tool arguments."""
