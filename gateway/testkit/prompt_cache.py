"""A simulated prompt cache. It decides which tokens of a request are read from the cache, written to it, or billed in
full.

- A cache entry is a prefix of the prompt (tools, system prompt, messages) that ends with a marked block. The mark is
  `cache_control` or `cachePoint`. A later request finds the entry only if it begins with the same blocks. The marks may
  differ.
- For each mark, the cache looks for an entry that ends at the marked block. Claude's cache also looks for entries that
  end at one of the 19 blocks before. The longest entry is used.
- An entry expires if it is not used during its lifetime. A prefix with fewer tokens than the model's minimum is not
  cached.

Source: Anthropic's documentation and AWS's user guide (prompt caching).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from time import monotonic
from typing import Any, Final, NamedTuple

import orjson

from gateway.contract.capabilities import Caps
from gateway.testkit.prompts import tokens
from gateway.testkit.scenarios import Tokens

LOOKBACK: Final = 20
"""Number of blocks at which Claude's cache looks for an entry, for each cache mark: the marked block and the 19 before
it."""
_SECONDS: Final[Mapping[str, float]] = {"5m": 300.0, "1h": 3600.0}


class Block(NamedTuple):
    """A block of a prompt: a tool, a block of the system prompt, or a block of a message."""

    text: bytes
    """The block as JSON without its cache mark, and the block's place in the prompt: `tools`, `system` or a role."""
    ttl: str
    """The lifetime in the block's cache mark. It is "" if the block is not marked."""


@dataclass(slots=True)
class PromptCache:
    """The cache of one simulated provider. `clock` returns the time in seconds, so that a test can set the time.

    >>> cache = prompt_cache.PromptCache()
    >>> text = {"type": "text", "text": "word " * 2000, "cache_control": {"type": "ephemeral"}}
    >>> body = {"messages": [{"role": "user", "content": [text]}]}
    >>> first, second = (cache.bill("claude-sonnet-4-5", Caps(family="claude"), body) for _ in range(2))
    >>> first.cache_write_5m == second.cache_read > 2000, first.cache_read, second.cache_write_5m
    (True, 0, 0)
    """

    clock: Callable[[], float] = monotonic
    _ends: dict[tuple[str, bytes], tuple[float, float]] = field(default_factory=dict)
    """The expiry time and the lifetime of each entry, both in seconds. A key is the model and the hash of the cached
    prefix.
    """

    def bill(self, model: str, caps: Caps, body: Mapping[str, Any]) -> Tokens:
        """Return the billed tokens of a request in the dialect of Messages or Converse. Update the cache."""
        prompt = list(blocks(body))
        if not prompt:
            return Tokens(input=1)
        sums = list(accumulate(tokens(block.text.decode()) for block in prompt))
        keys = [(model, digest) for digest in _digests(prompt)]
        marks = [index for index, block in enumerate(prompt) if block.ttl]
        found = self._longest(keys, marks, LOOKBACK if caps.family == "claude" else 1)
        done = 0 if found is None else sums[found]
        read, written = done, {"5m": 0, "1h": 0}
        for index in marks:
            if found is not None and index <= found:
                self._use(keys[index])
            elif sums[index] >= caps.cache_min_tokens:
                ttl = prompt[index].ttl
                self._ends[keys[index]] = self.clock() + _SECONDS[ttl], _SECONDS[ttl]
                written[ttl] += sums[index] - done
                done = sums[index]
        return Tokens(
            input=sums[-1] - done, cache_read=read, cache_write_5m=written["5m"], cache_write_1h=written["1h"]
        )

    def _longest(self, keys: Sequence[tuple[str, bytes]], marks: Sequence[int], lookback: int) -> int | None:
        """Find the longest cache entry that the prompt can use, and renew its lifetime.

        Return the index of the last block of this entry, or None if the prompt can use no entry. `keys` has one cache
        key for each block of the prompt: the key of the entry that ends with this block. `marks` has the indexes of the
        marked blocks. The prompt can use an entry that ends with a marked block, or with one of the `lookback` - 1
        blocks before it.
        """
        places = sorted({index - back for index in marks for back in range(lookback) if index >= back}, reverse=True)
        return next((place for place in places if self._use(keys[place])), None)

    def _use(self, key: tuple[str, bytes]) -> bool:
        """Renew the lifetime of an entry. Return False if there is no such entry."""
        end, seconds = self._ends.get(key, (0.0, 0.0))
        if end <= self.clock():
            return False
        self._ends[key] = self.clock() + seconds, seconds
        return True


def _digests(prompt: Sequence[Block]) -> Iterator[bytes]:
    """Yield one hash for each block. It is the hash of the prompt from its beginning to the end of this block."""
    whole = hashlib.sha256()
    for block in prompt:
        whole.update(len(block.text).to_bytes(8, "big") + block.text)
        yield whole.digest()


def blocks(body: Mapping[str, Any]) -> Iterator[Block]:
    """Yield the blocks of a Messages or Converse request, in the order in which the model reads them.

    >>> body = {"system": [{"text": "Be brief."}, {"cachePoint": {"type": "default"}}], "messages": []}
    >>> [block.ttl for block in prompt_cache.blocks(body)]
    ['5m']
    """
    config = body.get("toolConfig")
    yield from _marked("tools", config.get("tools") if isinstance(config, dict) else body.get("tools"))
    yield from _marked("system", body.get("system"))
    for message in body.get("messages") or ():
        yield from _marked(message["role"], message["content"])


def _marked(place: str, content: Any) -> Iterator[Block]:
    """Yield the blocks of one part of a prompt, each with the lifetime in its cache mark.

    `place` is the name of the part: `tools`, `system`, or the role of a message. `content` is a text or a list of
    blocks. In Messages, the cache mark is a field of the block. In Converse, it is an item of the list, after the
    block.
    """
    parts: Sequence[Any] = [{"type": "text", "text": content}] if isinstance(content, str) else content or ()
    waiting: Block | None = None
    for part in parts:
        if "cachePoint" in part:
            if waiting is not None:
                waiting = Block(waiting.text, part["cachePoint"].get("ttl", "5m"))
            continue
        if waiting is not None:
            yield waiting
        control = part.get("cache_control") or {}
        ttl = control.get("ttl", "5m") if control else ""
        plain = {name: value for name, value in part.items() if name != "cache_control"}
        waiting = Block(orjson.dumps([place, plain]), ttl)
    if waiting is not None:
        yield waiting
