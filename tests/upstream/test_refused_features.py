"""Tests of the memory of features that a provider has refused for a model. An entry is kept for a limited time, and the
number of entries is limited.
"""

from gateway.upstream.refused_features import KEPT, MAX_MODELS, RefusedFeatures


def test_a_refusal_counts_for_one_model_of_one_provider():
    features = RefusedFeatures()
    features.refused("p", "m", ("a",))
    assert features.of("p", "m") == ("a",)
    assert features.of("p", "n") == features.of("q", "m") == ()


def test_a_refusal_is_forgotten_after_a_while():
    now = 0.0
    features = RefusedFeatures(lambda: now)
    features.refused("p", "m", ("a",))
    now = KEPT - 1
    assert features.of("p", "m") == ("a",)
    now = KEPT
    assert features.of("p", "m") == ()


def test_the_least_recently_used_models_are_forgotten_first():
    features = RefusedFeatures()
    for number in range(MAX_MODELS):
        features.refused("p", str(number), ("a",))
    features.of("p", "0")
    features.refused("p", "new", ("a",))
    assert features.of("p", "0") == features.of("p", "new") == ("a",)
    assert features.of("p", "1") == ()
