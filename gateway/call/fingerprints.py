"""Fingerprints of chats: keyed hashes of the caller, the agent and the opening of the chat.

- All turns of a chat have the same opening, so they have the same fingerprint. The plugin of the client's API format
  reads the opening (`contract/openings.py`).
- The hash is keyed, because a short prompt could be guessed from a hash without a key.
"""

from __future__ import annotations

from hashlib import blake2b

from gateway.contract.openings import WINDOW, Opening


def fingerprint(opening: Opening, login: str, agent: str, key: bytes) -> str:
    """Return `fp_` and 16 hex digits: a hash of the caller, the agent and the opening of the chat."""
    digest = blake2b(key=key, digest_size=8)
    for part in (login, agent, *opening):
        data = part.encode("utf-8", "replace")
        digest.update(len(data).to_bytes(8, "big") + data[:WINDOW])
    return f"fp_{digest.hexdigest()}"
