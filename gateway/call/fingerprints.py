"""Fingerprints of chats: keyed hashes of the caller, the agent and the chat's opening.

- All turns of a chat have the same opening, so they have the same fingerprint. The client's compatibility flag reads
  the opening (`contract/openings.py`).
- The hash is keyed, because a short prompt could be guessed from a plain hash.
"""

from __future__ import annotations

from hashlib import blake2b

from gateway.contract.openings import WINDOW, Opening


def fingerprint(opening: Opening, login: str, agent: str, key: bytes) -> str:
    """Return a hash of the caller, the agent and the chat's opening: `fp_` and 16 hex digits."""
    digest = blake2b(key=key, digest_size=8)
    for part in (login, agent, *opening):
        data = part.encode("utf-8", "replace")
        digest.update(len(data).to_bytes(8, "big") + data[:WINDOW])
    return f"fp_{digest.hexdigest()}"
