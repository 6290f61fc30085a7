"""The golden files: requests and replies written by hand, each with the results of its conversions beside it.

`<dialect>/<case>/` holds:

- `request.json`: a client's request in this dialect, without what its route adds.
- `request.to_<provider>.json`: the request that a provider of this flag gets for it.
- `request.to_<provider>.dropped.json`: the members that the conversion reports as dropped, where there are any.
- `request.to_<provider>.refused.json`: the fault that the provider finds in a request that is passed on unchanged.
- `reply.json`, `reply.jsonl`: a provider's reply in this dialect, whole and as the events of a stream.
- `reply.to_<client>.json`, `reply.to_<client>.jsonl`: the reply and the stream that a client gets for it.
- `reply.to_<client>.dropped.json`: the members of the reply that are reported as dropped, where there are any.

A reply to a client's case is converted for that client's request of the same case; for `text` where the client's dialect
has no such case, or where the provider refuses the request. InvokeModel with a body of Messages is the same dialect in
another envelope: where the dialect is translated, both flags share the files of Messages.
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
    """Return the client's request of a case, or that of the default case if it has none."""
    path = FOLDER / dialect / case / REQUEST
    return read_json(path if path.exists() else FOLDER / dialect / DEFAULT_CASE / REQUEST)


def requests(dialect):
    """Return the cases of a dialect with the client's request of each."""
    return {case: request(dialect, case) for case in cases(dialect, REQUEST)}


def reply(dialect, case):
    """Return a provider's whole reply and the events of its stream, as (event type, data)."""
    folder = FOLDER / dialect / case
    return read_json(folder / REPLY), [json.loads(line) for line in (folder / STREAM).read_text().splitlines()]


def replies(dialect):
    """Return the cases of a dialect with the provider's reply of each, as `reply` gives it."""
    return {case: reply(dialect, case) for case in cases(dialect, REPLY)}
