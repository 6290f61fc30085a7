"""Tests of shortening the long strings in a JSON text (`long_strings.py`).

The shortened text has the same structure as the original. For a position in the shortened text, the position in the
original is known.
"""

import json
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.contract import long_strings
from gateway.contract.errors import Refused
from gateway.contract.long_strings import KEPT, MIN_RUN, shortened, text_size
from gateway.contract.members import Members
from tests.helpers.cpu_time import cpu_units

MANY_CUTS = settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
texts = st.text() | st.integers(0, 60).map(lambda size: "A" * size) | st.integers(0, 60).map(lambda size: "é\\" * size)
values = st.recursive(
    texts | st.integers() | st.lists(st.integers(0, 9), max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)
bodies = st.builds(
    lambda data, spaces, ascii_only: json.dumps(data, separators=spaces, ensure_ascii=ascii_only),
    st.dictionaries(texts, values, max_size=5),
    st.sampled_from([(",", ":"), (" " * 20 + ", ", ": ")]),
    st.booleans(),
)


@pytest.fixture
def short_runs(monkeypatch):
    """Lower the minimum length of strings that are shortened, so that tests can use short texts."""
    monkeypatch.setattr(long_strings, "MIN_RUN", 16)
    monkeypatch.setattr(long_strings, "KEPT", 4)


def runs(text):
    """Return the start and end of each run. A run is at least 16 bytes of `text` without a quote or a backslash.

    This simple search, byte by byte, gives the expected result.
    """
    ends = [-1, *[at for at, byte in enumerate(text) if byte in b'"\\'], len(text)]
    return [(one + 1, other) for one, other in pairwise(ends) if other - one - 1 >= 16]


@MANY_CUTS
@given(bodies)
def test_exactly_the_long_runs_are_cut(short_runs, body):
    text = body.encode(errors="replace")
    expected, at, cuts = b"", 0, []
    for start, end in runs(text):
        cuts.append(start + 4)
        expected += text[at : start + 4] + b"~%d~" % (end - start - 8)
        at = end - 4
    short = shortened(text)
    assert (short is None) == (not cuts)
    if short is not None:
        assert short.text == expected + text[at:]
        assert [cut.start for cut in short.cuts] == cuts


@MANY_CUTS
@given(bodies)
def test_every_byte_that_is_kept_has_one_place_in_both_texts(short_runs, body):
    text = body.encode(errors="replace")
    if (short := shortened(text)) is None:
        return
    cut = {at for start, end in runs(text) for at in range(start + 4, end - 4)}
    kept = sorted(set(range(len(text) + 1)) - cut)
    assert list(short.whole_places(map(short.place, kept))) == kept
    for at in kept:
        assert text[at : at + 1] == short.text[short.place(at) : short.place(at) + 1]


@MANY_CUTS
@given(bodies, st.data())
def test_members_are_those_of_the_whole_body(short_runs, body, draw):
    text, data = body.encode(errors="replace"), json.loads(body)
    members = Members(text)
    assert list(members) == list(data)
    assert {name: json.loads(value) for name, value in members.items()} == data
    if data:
        name = draw.draw(st.sampled_from(list(data)))
        value = draw.draw(st.sampled_from([b"1", b'["a string", {"of": "any length"}]']))
        changed = members.replaced(name, value)
        again = Members(changed.body)
        assert dict(changed) == dict(again) == {**members, name: value}
        short = shortened(text)
        if short is not None and members.shortened != short.text:
            return  # a run outside of a string, in a key or with a cut escape leaves the body whole
        assert {other: changed.head(other, 99) for other in data} == {other: again.head(other, 99) for other in data}


@pytest.mark.parametrize("before", [0, 1, 63, MIN_RUN - 1, 3 * MIN_RUN])
def test_a_string_is_shortened_in_the_same_way_wherever_it_begins(before):
    string = b'"' + bytes(range(48, 91)) * 10_000 + b'"'
    filler = b'"%b"' % (b"x" * (before % MIN_RUN)) + b'"%b"' % (b"y" * min(before, MIN_RUN - 1))
    assert shortened(filler + string).text == filler + shortened(string).text
    assert len(shortened(string).text) == 2 * KEPT + len("~427952~") + 2


@pytest.mark.parametrize("run", [b"[]," * 30_000, b"1," * 50_000, b" " * 100_000])
def test_a_long_run_outside_of_a_string_counts_as_text(run):
    body = b'{"a":[%b1]}' % run
    assert text_size(body) == len(body)
    assert text_size(b'{"a":"%b"}' % (b"A" * 100_000)) < 3_000


def test_many_long_strings_before_many_members_are_passed_once():
    """Check that a body with many long strings is scanned only once, and not once for each of its fields."""
    strings = b",".join([b'"%b"' % (b"A" * MIN_RUN)] * 200)
    body = b'{"a":[%b]%%b}' % strings
    few, many = body % b"", body % b"".join(b',"k%d":1' % number for number in range(900))
    assert len(Members(many)) == 901
    assert cpu_units(lambda: Members(many)) < 3 * cpu_units(lambda: Members(few)) + 3


def test_a_long_run_outside_of_a_string_is_not_left_out():
    body = b'{"a":"%b","n":[%b1],"b":"x"}' % (b"A" * 100_000, b"1," * 50_000)
    members = Members(body)
    assert members.shortened == body
    assert members["n"] == body[body.index(b"[") : body.index(b"]") + 1]


@pytest.mark.parametrize("bad", [b"\n", b"\0", b"\x1f"])
def test_a_control_character_in_a_part_that_is_left_out_is_refused(bad):
    run = b"A" * 100_000
    with pytest.raises(Refused, match="the body is not a JSON object"):
        Members(b'{"a":"%b%b%b"}' % (run, bad, run))


def test_a_repeated_member_is_refused_around_a_part_that_is_left_out():
    run = b"A" * 100_000
    with pytest.raises(Refused, match='names "a" twice'):
        Members(b'{"a":"%b","b":1,"a":"%b"}' % (run, run))
