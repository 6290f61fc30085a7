"""Removes the attribution of Claude Code from system prompts.

The attribution is a block with which Claude Code begins the system prompt, such as `x-anthropic-billing-header:
cc_version=2.1.177.01c; cc_entrypoint=cli; cch=36ee5;`. Anthropic's servers read this block and remove it before the
model reads the prompt. For every other provider, the block does harm:

- The block differs in every request. A provider that caches the beginning of prompts then finds nothing in its cache
  (anthropics/claude-code#68900).
- Bedrock has refused the block as a reserved keyword (anthropics/claude-code#24168).

The removal is not reported as a loss, because the block is not meant for the model.
"""

from __future__ import annotations

from typing import Final

_NAME: Final = "x-anthropic-billing-header"
_PREFIX: Final = f"{_NAME}:"
MARK: Final = _NAME.encode()
"""Bytes that every request body with Claude Code's attribution contains. A body without them need not be decoded."""


def without_attribution(text: str) -> str:
    """Return a text of the system prompt without its first line, which is Claude Code's attribution.

    The result is "" if there is no other line.
    """
    return text.partition("\n")[2] if text.startswith(_PREFIX) else text
