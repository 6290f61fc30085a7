"""Tests of the laws of `irisgate plugins check` with every compatibility flag, translator and filter that the registry
finds.

The other files of this folder have tests with random damage, and tests that apply only to built-in dialects.
"""

from dataclasses import replace

import pytest

from gateway.testkit.laws.check import Report, filter_subject, flag_subject, translator_subject
from gateway.testkit.laws.filter_laws import FILTER_LAWS
from gateway.testkit.laws.flag_laws import FLAG_LAWS
from gateway.testkit.laws.law import results
from gateway.testkit.laws.translator_laws import TRANSLATOR_LAWS
from tests.helpers.own_plugins import discover_own

REGISTRY = discover_own()


def with_few_samples(subject):
    """Return a plugin under test (`subject`) with only the last two of its sample exchanges, because more samples would
    take too long.
    """
    return replace(subject, samples=subject.samples[-2:])


FLAGS = {name: with_few_samples(flag_subject(flag)) for name, flag in REGISTRY.flags.items()}
TRANSLATORS = {
    translator.name: with_few_samples(translator_subject(translator, client, upstream, REGISTRY))
    for (client, upstream), translator in REGISTRY.translators.items()
}
FILTERS = {name: filter_subject(loaded, REGISTRY) for name, loaded in REGISTRY.filters.items()}


def of_laws(laws):
    return pytest.mark.parametrize("law", laws, ids=[law.rule.replace(" ", "-") for law in laws])


@pytest.mark.parametrize("flag", FLAGS)
@of_laws(FLAG_LAWS)
def test_a_law_of_flags_holds(law, flag):
    law.attempt(FLAGS[flag])


@pytest.mark.parametrize("translator", TRANSLATORS)
@of_laws(TRANSLATOR_LAWS)
def test_a_law_of_translators_holds(law, translator):
    law.attempt(TRANSLATORS[translator])


@pytest.mark.parametrize("name", FILTERS)
def test_the_laws_of_filters_hold(name):
    report = Report(name, "filter", list(results(FILTER_LAWS, FILTERS[name])))
    assert report.holds, str(report)


def test_the_laws_have_cases():
    assert len(FILTERS) >= 3
    assert len(FLAGS) >= 5
    assert len(TRANSLATORS) >= 9
