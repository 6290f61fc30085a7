"""The calls that wait for the bank of quota balances that several processes share (`leases.py`).

- `Questions` has the calls that wait for the bank's answer. One request to the bank answers all of them.
- `Returns` has the calls that the bank has refused, and that wait until other processes give back parts of a balance.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from gateway.money.quotas.buckets import Bucket
from gateway.money.quotas.leases import Answer
from gateway.money.quotas.slices import Want


class Question(NamedTuple):
    """The amount that a call wants from a bucket, and the future result."""

    want: Want
    answer: asyncio.Future[Answer | None]
    """The result is None if the bucket was forgotten meanwhile."""


Asked = Mapping[Bucket, Sequence[Question]]
"""The questions of calls, by the bucket that they are about."""


class Questions:
    """The questions that were not sent to the bank yet."""

    def __init__(self) -> None:
        self._asked: dict[Bucket, list[Question]] = {}

    def add(self, bucket: Bucket, want: Want) -> asyncio.Future[Answer | None]:
        """Add a question of a call. Return the future of its answer."""
        question = Question(want, asyncio.get_running_loop().create_future())
        self._asked.setdefault(bucket, []).append(question)
        return question.answer

    def take(self) -> Asked:
        """Return the questions, without those of calls that were cancelled meanwhile, and forget them."""
        asked, self._asked = self._asked, {}
        live = {bucket: [one for one in questions if not one.answer.done()] for bucket, questions in asked.items()}
        return {bucket: questions for bucket, questions in live.items() if questions}

    def put_back(self, asked: Asked) -> None:
        """Add questions that were taken and must be sent again."""
        for bucket, questions in asked.items():
            self._asked.setdefault(bucket, []).extend(questions)


def resolve(asked: Asked, answers: Mapping[Bucket, Answer]) -> None:
    """Give each question the answer about its bucket, or None if there is no answer about this bucket."""
    for bucket, questions in asked.items():
        for question in questions:
            if not question.answer.done():
                question.answer.set_result(answers.get(bucket))


def fail(asked: Asked, error: Exception) -> None:
    """Raise an exception in each call that waits for an answer."""
    for questions in asked.values():
        for question in questions:
            if not question.answer.done():
                question.answer.set_exception(error)


class Returns:
    """The calls that wait until other processes give back parts of a bucket's balance."""

    def __init__(self) -> None:
        self._events: dict[Bucket, set[asyncio.Event]] = {}

    @contextmanager
    def waiting_for(self, bucket: Bucket) -> Iterator[asyncio.Event]:
        """Yield an event that is set when other processes have given back parts of the bucket."""
        event = asyncio.Event()
        self._events.setdefault(bucket, set()).add(event)
        try:
            yield event
        finally:
            # after `came`, the set is that of later calls or none
            if (waiting := self._events.get(bucket)) is not None:
                waiting.discard(event)
                if not waiting:
                    del self._events[bucket]

    def came(self, bucket: Bucket) -> None:
        """Wake the calls that wait for this bucket."""
        for event in self._events.pop(bucket, ()):
            event.set()

    @property
    def is_empty(self) -> bool:
        return not self._events
