"""Translation of Responses requests to any dialect.

The code is the same for every upstream dialect, except for three arguments of `translate`: the dialect's name, the
mapping of the request's values to a body, and the reader of replies. The request is read in
`dialects/openai_responses/read_options.py`, and the reply is written in `dialects/openai_responses/emit.py`.
"""

from __future__ import annotations

from functools import partial

import msgspec

from gateway.contract.flag import ClientRequest, Drop, Target
from gateway_plugins.dialects.openai_responses import emit as responses_emit
from gateway_plugins.dialects.openai_responses import read_options as responses_read_options
from gateway_plugins.shared.inline_reasoning import Create, reply_reader
from gateway_plugins.shared.plain_request import Convert
from gateway_plugins.shared.reply_events import Translation


class _Recorder(msgspec.Struct):
    """A callback for dropped fields (`flag.Drop`) that also collects their JSON pointers.

    It is a class, because a closure cannot be sent to a worker process.
    """

    drop: Drop
    paths: set[str] = msgspec.field(default_factory=set)

    def __call__(self, path: str) -> None:
        self.paths.add(path)
        self.drop(path)


def translate(
    request: ClientRequest,
    target: Target,
    drop: Drop,
    *,
    upstream: str,
    convert: Convert,
    read_reply: Create,
) -> Translation:
    """Return the translation of a Responses request to the dialect `upstream`.

    `convert` maps the request to a body in this dialect. `read_reply` is the class that reads replies in this dialect.
    Raises `Refused` for a request that is malformed or that the model cannot serve.
    """
    recorder = _Recorder(drop)
    values, origins = responses_read_options.read_request(request.top, recorder)
    converted = convert(values, target, recorder, stream=request.stream)
    dropped = frozenset(recorder.paths)
    return Translation(
        request.with_body(upstream, converted.body),
        reply_reader(read_reply, converted.names, converted.schema_tool, target, drop),
        responses_emit.Stream(request, origins, drop, dropped),
        partial(responses_emit.Whole, request, origins, drop, dropped),
    )
