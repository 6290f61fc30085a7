"""The content of a reply, independent of dialects, for comparing replies of two dialects, or a stream with an
unstreamed reply.
"""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class ReplyContent:
    text: str
    thinking: str
    signatures: list
    redacted: list
    calls: list
    """Tool calls as (id, name, decoded arguments)."""
    stop: str
    citations: int
    """Number of citations."""
    input: int
    """Input tokens that are neither read from nor written to a cache."""
    read: int
    """Input tokens read from a cache."""
    written: int
    """Input tokens written to a cache."""
    output: int
    """Output tokens."""

    def without_ids(self):
        """Return the content without the ids of tool calls. The gateway may make new ids for each reply."""
        return replace(self, calls=[call[1:] for call in self.calls])
