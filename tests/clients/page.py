"""The settings in `deploy/clients.md`, so that tests use exactly what users copy from this page."""

import re

from tests.clients.samples import ROOT

PAGE = ROOT / "deploy" / "clients.md"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_EXPORT = re.compile(r"^export (\w+)=(.*)$", re.MULTILINE)


def section(heading):
    """Return the text below a heading of the second level. Raises `KeyError` if there is no such heading."""
    _, separator, rest = PAGE.read_text().partition(f"\n## {heading}\n")
    if not separator:
        raise KeyError(heading)
    return rest.partition("\n## ")[0]


def settings(client, url, language=None):
    """Return the code blocks that `deploy/clients.md` has for a client, with the test gateway's URL.

    `language` selects the blocks of one language.
    """
    blocks = _BLOCK.findall(section(client))
    assert blocks, client
    return [text.replace("http://ai", url) for kind, text in blocks if language in {None, kind}]


def environ(client, url):
    """Return the environment variables that a client's code block on the page exports."""
    (block,) = settings(client, url, "sh")
    variables = dict(_EXPORT.findall(block))
    assert len(variables) == len(block.splitlines()), "a line that exports nothing"
    return variables
