"""Removes the attribution of Claude Code from system prompts.

Claude Code begins the system prompt with a block such as `x-anthropic-billing-header: cc_version=2.1.177.01c;
cc_entrypoint=cli; cch=36ee5;`, the attribution. Only Anthropic's servers read this block, and they remove it before the
model reads the prompt. For every other provider, the block does harm:

- The block differs in every request. A provider that caches the beginning of prompts then finds nothing in its cache
  (anthropics/claude-code#68900).
- Bedrock has refused the block as a reserved keyword (anthropics/claude-code#24168).

The block says nothing to the model, so its removal is not reported as a loss.
"""

from __future__ import annotations

from typing import Final

_NAME: Final = "x-anthropic-billing-header"
_PREFIX: Final = f"{_NAME}:"
MARK: Final = _NAME.encode()
"""Bytes that every system prompt with an attribution contains, for a quick search."""


def without_attribution(text: str) -> str:
    """Return a text of a system prompt without Claude Code's attribution.

    The attribution is the first line of the text. If there is no other line, the result is "".
    """
    return text.partition("\n")[2] if text.startswith(_PREFIX) else text
