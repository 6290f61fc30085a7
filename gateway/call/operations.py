"""Names of operations that the accounting of calls treats specially.

Any other operation, such as `generate`, is the work of a model. Such an operation is billed and counted in tokens.
"""

from __future__ import annotations

from typing import Final

from gateway.contract.flag import COUNT_TOKENS

DIRECT: Final = "direct"
"""A request below `/direct` whose meaning is not known. Its cost is unknown."""
READ: Final = "read"
"""A request below `/direct` that only reads (GET). No model works for it, so providers bill nothing."""
UNBILLED_OPERATIONS: Final = frozenset({COUNT_TOKENS, READ})
"""Operations that cost no money. They do not count towards rate limits of tokens."""
UNCOUNTED_OPERATIONS: Final = frozenset({*UNBILLED_OPERATIONS, DIRECT})
"""Operations that do not count towards rate limits of tokens. The tokens of a direct request cannot be known."""
