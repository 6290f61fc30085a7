"""The accessibility rules of axe-core, applied to a page in a browser.

The rules are those of WCAG 2.2, levels A and AA, that a program can check (https://github.com/dequelabs/axe-core).
"""

import json

import pytest

from tests.helpers.source_tree import ROOT

SCRIPT = ROOT / ".tools/node_modules/axe-core/axe.min.js"
RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
COLOURS = ("color-contrast", "link-in-text-block")
"""The rules whose result depends on the colours of a page."""


@pytest.fixture
def violations():
    """Return a function that gets a browser's tab, and returns the broken rules, each with up to three elements.

    With `colours=True`, only the rules about colours are checked. This is enough for a page in dark colours if all
    rules were checked for the page in light colours, or the reverse.
    """
    if not SCRIPT.exists():
        pytest.skip("axe-core (of npm) is not installed")
    source = SCRIPT.read_text()

    async def found(tab, *, colours=False):
        if not await tab.evaluate("'axe' in window"):
            await tab.evaluate(f"{source}; 0")
        rules = {"runOnly": {"type": "rule", "values": COLOURS} if colours else RULES}
        return await tab.evaluate(
            f"axe.run({json.dumps(rules)}).then(result => result.violations.map("
            "rule => [rule.id, ...rule.nodes.slice(0, 3).map(node => node.html.slice(0, 200))]))"
        )

    return found
