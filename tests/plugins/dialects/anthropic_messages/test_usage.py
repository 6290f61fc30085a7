"""Tests of long lists in `usage.iterations`. One reply of Claude may take several runs of a model, and this list has
the tokens of each run.

A long list does not make the call's record long. If entries of the list are skipped, the cost is marked as inexact.
"""

import pytest

from gateway.contract.flag import Usage
from gateway_plugins.dialects.anthropic_messages.usage import MAX_ITERATIONS, MAX_PARTS, Reports
from gateway_plugins.shared.cache_marks import Marks

COMPACTION = {"type": "compaction", "input_tokens": 10, "output_tokens": 1}


def reported(iterations):
    reports = Reports()
    reports.add({"input_tokens": 5, "output_tokens": 5, "iterations": iterations})
    return reports.parts(Marks())


@pytest.mark.parametrize("count", [0, 1, MAX_PARTS - 1, MAX_PARTS, 100, MAX_ITERATIONS])
def test_no_token_of_many_iterations_is_lost(count):
    parts, exact = reported([COMPACTION] * count)
    assert len(parts) == min(count + 1, MAX_PARTS)
    assert sum((part.usage for part in parts), Usage()) == Usage(input=5 + 10 * count, output=5 + count)
    assert exact is (count + 1 < MAX_PARTS)


def test_iterations_that_are_not_read_mark_the_cost():
    parts, exact = reported([{"type": "message"}] * MAX_ITERATIONS + [COMPACTION])
    assert (len(parts), exact) == (1, False)


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        5,
        "compaction",
        [],
        {"type": 5},
        {"type": "compaction"},
        {**COMPACTION, "input_tokens": "nine", "output_tokens": -1},
    ],
)
def test_an_iteration_of_a_wrong_form_is_no_part(wrong):
    assert reported([wrong]) == (reported([])[0], True)


def test_an_unknown_kind_has_the_providers_name_shortened():
    parts, exact = reported([{**COMPACTION, "type": "x" * 500, "model": "m"}])
    assert (parts[1].kind, parts[1].model, exact) == ("x" * 64, "m", False)
