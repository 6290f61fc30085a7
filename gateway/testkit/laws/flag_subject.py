"""A compatibility flag (the plugin of one API format), with the samples that are used to test it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from gateway.contract.capabilities import Caps
from gateway.contract.registry import Plugin
from gateway.contract.samples import Sample
from gateway.testkit.laws.exchange import Exchange
from gateway.testkit.laws.law import samples_with


@dataclass(frozen=True, slots=True)
class FlagSubject:
    """A flag (the plugin of one API format) with its samples."""

    flag: Plugin
    samples: Sequence[Sample]
    caps: Caps

    def exchanges(self, has: Callable[[Sample], bytes], what: str) -> Iterator[Exchange]:
        """Yield an exchange for each sample that has a certain part, such as a stream.

        `has` returns this part of a sample, or b"" if the sample lacks it. If all samples lack it, `Untried` is raised,
        with `what` as the name of the part.
        """
        for sample in samples_with(self.samples, has, what):
            yield Exchange(self.flag, sample, self.caps)

    def requests(self) -> Iterator[Exchange]:
        return self.exchanges(lambda sample: sample.request, "a request")

    def streams(self) -> Iterator[Exchange]:
        return self.exchanges(lambda sample: sample.stream, "a stream")

    def wholes(self) -> Iterator[Exchange]:
        return self.exchanges(lambda sample: sample.whole, "a whole reply")


def name_of(exchange: Exchange) -> str:
    return f"sample {exchange.sample.name}"
