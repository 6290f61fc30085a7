"""`deploy/clients.md`, read for tests: what users copy is what is tried."""

import re

from tests.clients.samples import ROOT

PAGE = ROOT / "deploy" / "clients.md"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_EXPORT = re.compile(r"^export (\w+)=(.*)$", re.MULTILINE)


def section(heading):
    """The text below a heading of the second level. Raises `KeyError` where there is none."""
    _, separator, rest = PAGE.read_text().partition(f"\n## {heading}\n")
    if not separator:
        raise KeyError(heading)
    return rest.partition("\n## ")[0]


def settings(client, url, language=None):
    """The code blocks of a client, with the gateway's URL for the page's; of one language where one is given."""
    blocks = _BLOCK.findall(section(client))
    assert blocks, client
    return [text.replace("http://ai", url) for kind, text in blocks if language in {None, kind}]


def environ(client, url):
    """The variables that a client's block exports."""
    (block,) = settings(client, url, "sh")
    variables = dict(_EXPORT.findall(block))
    assert len(variables) == len(block.splitlines()), "a line that exports nothing"
    return variables
