"""Names of operations that the accounting of calls treats specially.

Any other operation, such as `generate`, is the work of a model, and is billed and counted in tokens.
"""

from __future__ import annotations

from typing import Final

from gateway.contract.flag import COUNT_TOKENS, LIST_JOBS, READ_JOB, START_JOB, STOP_JOB

DIRECT: Final = "direct"
"""The operation of a request below `/direct` whose meaning is not known."""
READ: Final = "read"
"""The operation of a GET request below `/direct`. Such a request starts no work of a model, so providers bill nothing
for it.
"""
UNBILLED_OPERATIONS: Final = frozenset({COUNT_TOKENS, READ, READ_JOB, STOP_JOB, LIST_JOBS})
"""Operations that cost no money. They do not count towards rate limits of tokens."""
UNKNOWN_COST: Final = frozenset({DIRECT, START_JOB})
"""Operations whose cost is unknown, even if the price of the model is known."""
UNCOUNTED_OPERATIONS: Final = UNBILLED_OPERATIONS | UNKNOWN_COST
"""Operations that are not charged to rate limits of tokens, because their tokens are unknown or they use none."""
OF_JOBS: Final = frozenset({READ_JOB, STOP_JOB, LIST_JOBS})
"""Operations on jobs that exist already. Their requests name no model."""
