"""The golden files: requests and replies written by hand, and the expected results of their conversions.

`<dialect>/<case>/` holds:

- `request.json`: a client's request in this dialect, without the fields that its route adds.
- `request.to_<provider>.json`: the request that a provider with this compatibility flag gets for it.
- `request.to_<provider>.dropped.json`: the fields that the conversion reports as dropped. Missing if there are none.
- `request.to_<provider>.refused.json`: the fault that the provider finds in a request that is passed on unchanged.
- `reply.json`, `reply.jsonl`: a provider's reply in this dialect, unstreamed and as the events of a stream.
- `reply.to_<client>.json`, `reply.to_<client>.jsonl`: the reply and the stream that a client gets for it.
- `reply.to_<client>.dropped.json`: the fields of the reply that are reported as dropped. Missing if there are none.

A reply is converted as the answer to the client's request of the same case. If the client's dialect has no request of
that case, or if the provider refuses the request, the request of the case `text` is used.

The flags for Anthropic's Messages and for InvokeModel with a Messages body have one dialect. So translations of both
use the files of Messages.
"""

import json
from pathlib import Path

FOLDER = Path(__file__).parent
REQUEST, REPLY, STREAM = "request.json", "reply.json", "reply.jsonl"
DEFAULT_CASE = "text"


def read_json(path):
    return json.loads(path.read_text())


def cases(dialect, name):
    """Return the cases of a dialect that have a file of this name, sorted."""
    return sorted(path.parent.name for path in FOLDER.glob(f"{dialect}/*/{name}"))


def request(dialect, case):
    """Return the client's request of a case, or of the default case if the dialect has no such case."""
    path = FOLDER / dialect / case / REQUEST
    return read_json(path if path.exists() else FOLDER / dialect / DEFAULT_CASE / REQUEST)


def requests(dialect):
    """Return the cases of a dialect, each with the client's request."""
    return {case: request(dialect, case) for case in cases(dialect, REQUEST)}


def reply(dialect, case):
    """Return a provider's unstreamed reply, and the events of its stream as (event type, data)."""
    folder = FOLDER / dialect / case
    return read_json(folder / REPLY), [json.loads(line) for line in (folder / STREAM).read_text().splitlines()]


def replies(dialect):
    """Return the cases of a dialect, each with the provider's reply in the form that `reply` returns."""
    return {case: reply(dialect, case) for case in cases(dialect, REPLY)}
