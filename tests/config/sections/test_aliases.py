"""Tests of the section `model_aliases`, and of the settings that are read from it."""

from typing import get_args

import pytest

from gateway.config.load import loads
from gateway.config.model import Alias, Strategy
from tests.config.examples import config


def aliases(section):
    return loads(config({"models": ["m", "a/b:0"]}, model_aliases=section)).config.aliases


def test_an_alias_is_its_targets_in_order_and_the_first_is_taken():
    parsed = aliases({"models": {"fast": {"dst": ["p/m", "p/a/b:0"]}}})
    assert parsed == {"fast": Alias((("p", "m"), ("p", "a/b:0")), "first")}


@pytest.mark.parametrize("strategy", get_args(Strategy))
def test_a_strategy_is_for_all_or_for_one(strategy):
    one = {"a": {"dst": ["p/m"]}, "b": {"dst": ["p/m"], "strategy": "random"}}
    parsed = aliases({"strategy": strategy, "models": one})
    assert (parsed["a"].strategy, parsed["b"].strategy) == (strategy, "random")


def test_an_unknown_strategy_is_the_first():
    parsed = aliases({"strategy": "x", "models": {"a": {"dst": ["p/m"]}, "b": {"dst": ["p/m"], "strategy": "y"}}})
    assert {alias.strategy for alias in parsed.values()} == {"first"}


def test_a_target_that_is_not_there_is_kept():
    parsed = aliases({"models": {"a": {"dst": ["q/m", "p/n"]}}})
    assert parsed["a"].targets == (("q", "m"), ("p", "n"))


def test_without_the_section_there_is_none():
    assert aliases({}) == {}
