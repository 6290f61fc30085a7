"""The calls that wait for the quota bank, the service that keeps the balances that several processes share
(`leases.py`).

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
    """An amount that a call requests from the quota bank, and a future for the bank's answer."""

    want: Want
    answer: asyncio.Future[Answer | None]
    """A future for the bank's answer. Its result is None if the bucket was removed from memory before the request was
    sent.
    """


Asked = Mapping[Bucket, Sequence[Question]]
"""The requests of calls, by the bucket from which they request an amount."""


class Questions:
    """Requests of calls that wait to be sent to the quota bank."""

    def __init__(self) -> None:
        self._asked: dict[Bucket, list[Question]] = {}

    def add(self, bucket: Bucket, want: Want) -> asyncio.Future[Answer | None]:
        """Add a call's request for a part of the bucket's balance. Return the future for the quota bank's answer."""
        question = Question(want, asyncio.get_running_loop().create_future())
        self._asked.setdefault(bucket, []).append(question)
        return question.answer

    def take(self) -> Asked:
        """Remove and return all requests, except those of calls that were cancelled meanwhile."""
        asked, self._asked = self._asked, {}
        live = {bucket: [one for one in questions if not one.answer.done()] for bucket, questions in asked.items()}
        return {bucket: questions for bucket, questions in live.items() if questions}

    def put_back(self, asked: Asked) -> None:
        """Add requests that `take` has returned and that must be sent again."""
        for bucket, questions in asked.items():
            self._asked.setdefault(bucket, []).extend(questions)


def resolve(asked: Asked, answers: Mapping[Bucket, Answer]) -> None:
    """Set the result of each request in `asked` to the answer about its bucket, or to None if `answers` has none."""
    for bucket, questions in asked.items():
        for question in questions:
            if not question.answer.done():
                question.answer.set_result(answers.get(bucket))


def fail(asked: Asked, error: Exception) -> None:
    """Raise `error` in each call whose request is in `asked`."""
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
        """Return a context manager with an event, which is set when other processes have given back parts of the
        bucket.
        """
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
