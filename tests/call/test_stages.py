"""Tests of the stages through which the events of a stream pass, such as a translation.

Events come in batches. The tests check which batches a stage passes on at once, which batches it delays, and what
happens after an error.
"""

from gateway.call.responses import Batch, Stage, Stream
from gateway.call.stages import Staged
from gateway.contract.errors import Truncated
from gateway.contract.flag import Event

CUT = Truncated()


def batch(*names, fault=None):
    return Batch([Event(name, b"1") for name in names], fault)


def names(batches):
    return [[event.kind for event in each.events] for each in batches]


class Pushed:
    """A source of batches. It gives each batch to the function `take`, and yields the batch only if `take` returns
    False.
    """

    def __init__(self, *batches):
        self._batches = batches

    async def batches(self, take):
        for each in self._batches:
            if not take(each):
                yield each


class Waits(Stage):
    """A stage that fails at an event `bad`, drops an event `gone`, and passes on two batches in place of an event
    `slow`.
    """

    def __init__(self):
        self.fed, self.waited, self.closed = [], [], 0

    def feed(self, each):
        (name,) = [event.kind for event in each.events]
        self.fed.append(name)
        match name:
            case "slow":
                return None
            case "bad":
                return Batch((), CUT)
            case "gone":
                return Batch(())
        return each

    async def feed_slowly(self, each):
        self.waited.append(each.events[0].kind)
        yield batch("first")
        yield batch("second")

    async def close(self):
        self.closed += 1
        return [batch("end")]


async def run(source, *stages, takes=lambda _: True):
    """Run a stream through stages. Return a tuple of three values.

    They are the batches that the function `sink` took, the batches that the stream yielded to its caller, and the error
    of the last yielded batch. Each batch is given as the list of its events' names.
    """
    staged = Staged(Stream(200, {}, source, stages))
    written, pulled = [], []

    def sink(each):
        is_taken = takes(each)
        if is_taken:
            written.append(each)
        return is_taken

    async for each in staged.batches:
        pulled.append(each)
        staged.sink = sink
    return names(written), names(pulled), pulled[-1].fault


async def test_only_the_first_batch_is_pulled_of_a_usual_stream():
    """Check that the caller of a stream awaits only the first batch. Each later batch is given to the function `sink`
    when it arrives.
    """
    written, pulled, fault = await run(Pushed(batch("a"), batch("b"), batch("c")), Stage())
    assert (written, pulled, fault) == ([["b"], ["c"]], [["a"]], None)


async def test_a_batch_that_waits_goes_on_where_it_stopped():
    first, second, third = Waits(), Waits(), Waits()
    source = Pushed(batch("a"), batch("slow"), batch("b"))
    first.feed = lambda each: first.fed.append(each.events[0].kind) or each
    written, pulled, _ = await run(source, first, second, third)
    assert (first.fed, second.fed) == (["a", "slow", "b"], ["a", "slow", "b", "end"])
    assert (second.waited, third.fed) == (["slow"], ["a", "first", "second", "b", "end", "end"])
    assert (written, pulled) == ([["b"]], [["a"], ["first"], ["second"], ["end"], ["end"], ["end"]])


async def test_a_sink_that_does_not_take_a_batch_gets_no_other_before_it():
    refused = iter([False, True])
    source = Pushed(batch("a"), batch("b"), batch("c"))
    written, pulled, _ = await run(source, Stage(), takes=lambda _: next(refused))
    assert (written, pulled) == ([["c"]], [["a"], ["b"]])


async def test_a_stage_that_fails_ends_the_stream():
    """Check that after an error, no later batch is passed on, and no stage's method `close` is called.

    The error is tried in the first batch and in a later one.
    """
    for batches in ((batch("bad"), batch("b")), (batch("a"), batch("bad"), batch("b"))):
        stage = Waits()
        written, pulled, fault = await run(Pushed(*batches), stage, Stage())
        assert (written, pulled[-1], fault, stage.closed) == ([], [], CUT, 0)


async def test_an_error_of_the_source_is_passed_on_with_the_events_before_it():
    stage = Waits()
    source = Pushed(batch("a"), batch("b", fault=CUT), batch("c"))
    written, pulled, fault = await run(source, stage, takes=lambda each: each.fault is None)
    assert (written, pulled, fault, stage.closed) == ([], [["a"], ["b"]], CUT, 0)


async def test_a_batch_without_events_goes_no_further():
    first, second = Waits(), Waits()
    written, pulled, _ = await run(Pushed(batch("gone"), batch("a"), batch("gone"), batch("b")), first, second)
    assert (written, pulled[0], second.fed[:2]) == ([["b"]], ["a"], ["a", "b"])


async def test_a_stage_that_only_postpones_a_batch_passes_it_on_unchanged():
    class Postpones(Stage):
        def feed(self, _each):
            return None

    written, pulled, fault = await run(Pushed(batch("a", "b"), batch("c")), Postpones(), Stage())
    assert (written, pulled, fault) == ([], [["a", "b"], ["c"]], None)
