"""Translation of generateContent requests to any dialect.

The code is the same for every upstream dialect, except for three arguments of `translate`: the dialect's name, the
mapping of the request's values to a body, and the reader of replies. The request is read in
`dialects/gemini_generate_content/read_options.py`, and the reply is written in
`dialects/gemini_generate_content/emit.py`.
"""

from __future__ import annotations

from functools import partial

from gateway.contract.flag import ClientRequest, Drop, Target
from gateway_plugins.dialects.gemini_generate_content import emit as gemini_emit
from gateway_plugins.dialects.gemini_generate_content import read_options as gemini_read_options
from gateway_plugins.dialects.gemini_generate_content.answers import DropInAnswer
from gateway_plugins.shared.inline_reasoning import Create, reply_reader
from gateway_plugins.shared.plain_request import Convert
from gateway_plugins.shared.reply_events import Translation


def translate(
    request: ClientRequest,
    target: Target,
    drop: Drop,
    *,
    upstream: str,
    convert: Convert,
    read_reply: Create,
) -> Translation:
    """Return the translation of a generateContent request to the dialect `upstream`.

    `convert` maps the request to a body in this dialect. `read_reply` is the class that reads replies in this dialect.
    Raises `Refused` for a request that is malformed or that the model cannot serve.
    """
    values, options = gemini_read_options.read_request(request.top, drop)
    report = DropInAnswer(drop, values.format.at) if options.in_object else drop
    converted = convert(values, target, report, stream=request.stream)
    return Translation(
        request.with_body(upstream, converted.body),
        reply_reader(read_reply, converted.names, converted.schema_tool, target, drop),
        gemini_emit.Stream(request.model, drop, options),
        partial(gemini_emit.Whole, request.model, drop, options),
    )
