"""One file a directed pair of dialects: `<client dialect>__<upstream dialect>.py`."""
