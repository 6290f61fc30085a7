"""One file for each directed pair of dialects: `<client dialect>__<upstream dialect>.py`.

- Requests of Chat, Responses and generateContent are read into a `PlainRequest` (`shared/plain_request.py`). Each
  upstream dialect has one mapping of a `PlainRequest`. So these translators only connect a reader, a mapping and a
  writer.
- Requests of Messages and Converse have fields that `PlainRequest` lacks. So the translators for these two dialects map
  the fields of a request directly to fields of the upstream dialect. Messages are mapped in `mappings/`.
- Replies need no code for a pair of dialects: the reader of the upstream dialect calls the writer of the client's
  dialect (`shared/reply_events.py`).

Readers and writers of a dialect, and rules for every request to a dialect, are in `dialects/`.
"""
