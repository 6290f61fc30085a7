"""One file for each directed pair of dialects: `<client dialect>__<upstream dialect>.py`.

- Requests of Chat and Responses are read into one set of values (`dialects/openai/values.py`), and each upstream
  dialect has one mapping from these values. So these translators only join a reader, a mapping and a writer.
- Requests of Messages and Converse are direct pairs, because they say more than those values hold. These translators
  map the members of a request themselves; the messages are mapped in `mappings/`.
- Replies are never pairs: a reader of the upstream dialect drives a writer of the client's (`shared/reply_events.py`).

Rules that hold for every request to a dialect, and readers and writers of a dialect, belong to `dialects/`.
"""
