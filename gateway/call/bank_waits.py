"""The calls that wait for the quota bank, the service that keeps the balances that several processes share
(`leases.py`).

- `Questions` has the calls that wait for the bank's answer. One request to the bank serves all of them.
- `Returns` has the calls that the bank has refused. They wait until other processes give back parts of a balance.
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
    """The future that gets the bank's answer. It gets None if the bucket is removed from memory before the request is
    sent.
    """


Asked = Mapping[Bucket, Sequence[Question]]
"""The requests of calls, by the bucket from which they request an amount."""


class Questions:
    """Requests of calls that wait to be sent to the quota bank."""

    def __init__(self) -> None:
        self._asked: dict[Bucket, list[Question]] = {}

    def add(self, bucket: Bucket, want: Want) -> asyncio.Future[Answer | None]:
        """Add the amount that a call wants from a bucket. Return the future that gets the quota bank's answer."""
        question = Question(want, asyncio.get_running_loop().create_future())
        self._asked.setdefault(bucket, []).append(question)
        return question.answer

    def take(self) -> Asked:
        """Remove and return all requests, except those of calls that were cancelled meanwhile."""
        asked, self._asked = self._asked, {}
        live = {bucket: [one for one in questions if not one.answer.done()] for bucket, questions in asked.items()}
        return {bucket: questions for bucket, questions in live.items() if questions}

    def put_back(self, asked: Asked) -> None:
        """Add again the requests that `take` returned, so that they are sent a second time."""
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
        """Return a context manager whose value is an event. The event is set when other processes have given back parts
        of the bucket's balance.
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
        """Wake the calls that wait for this bucket, because other processes have given back parts of its balance."""
        for event in self._events.pop(bucket, ()):
            event.set()

    @property
    def is_empty(self) -> bool:
        return not self._events
