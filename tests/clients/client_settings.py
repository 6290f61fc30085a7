"""The README's table of clients, read for tests: what users copy is what is tried."""

import re

from tests.clients.samples import ROOT

_ROW = re.compile(r"^\| (?P<client>[^|]+) \| (?P<settings>.*`.*) \|$", re.MULTILINE)


def settings(client, url):
    """The code spans of a client's row, with the gateway's URL for the README's. Raises `StopIteration` for no row."""
    table = (ROOT / "README.md").read_text().partition("\n## Clients\n")[2].partition("\n## ")[0]
    row = next(row for row in _ROW.finditer(table) if row["client"].startswith(client))
    return [span.replace("http://ai", url) for span in re.findall(r"`([^`]+)`", row["settings"])]


def environ(client, url):
    """The variables that a row names."""
    return dict(span.split("=", 1) for span in settings(client, url))
