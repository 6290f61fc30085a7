"""Tests of finding other models that may serve a call: the same model at other providers, and the targets of the same
alias.
"""

import json

from gateway.config.load import loads
from gateway.upstream.health.peers import peers_of


def config(providers, aliases=()):
    named = {
        id_: {"baseurl": "http://127.0.0.1:9", "apikey": "-", "models": models, **more}
        for id_, models, more in providers
    }
    return loads(json.dumps({"providers": named, "model_aliases": {"models": dict(aliases)}})).config


def test_the_same_model_at_others_and_the_targets_of_an_alias_are_peers():
    alias = {"dst": ["a/x", "b/y", "a/z"]}
    providers = [("a", ["x", "z", "alone"], {}), ("b", ["x", "y"], {}), ("off", ["x"], {"disabled": True})]
    peers = peers_of(config(providers, {"fast": alias}))
    assert list(peers.of(("a", "x"))) == [("b", "x"), ("b", "y"), ("a", "z")]
    assert list(peers.of(("b", "y"))) == [("a", "x"), ("a", "z")]
    assert list(peers.of(("a", "alone"))) == list(peers.of(("off", "x"))) == []
    assert [key for key in peers if not peers.has_other(key)] == [("a", "alone")]
    assert ("off", "x") not in peers


def test_the_work_for_many_providers_of_one_model_is_not_quadratic():
    made = peers_of(config([(f"p{number}", ["m"], {}) for number in range(2000)]))
    assert sum(made.has_other(key) for key in made) == 2000
    groups = {id(group) for key in made for group in made._groups[key]}
    assert len(groups) == 1
