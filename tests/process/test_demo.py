"""Tests of the names of models and the price lists that the demo uses in each region."""

from __future__ import annotations

import pytest

from gateway.contract.capabilities import base_id, capabilities
from gateway.money.prices.table import BASES, Prices
from gateway.process.demo import CLAUDE, NOVA, PLACES, model_names

REGIONS = {
    # region: (Claude's prefix, Nova's, price list)
    "us-east-1": ("us.", "us.", "bedrock-us"),
    "us-gov-west-1": ("us-gov.", "", "bedrock-us-gov"),
    "eu-central-1": ("eu.", "eu.", "bedrock-eu"),
    "ap-northeast-1": ("jp.", "apac.", "bedrock-ap"),
    "ap-southeast-2": ("au.", "apac.", "bedrock-ap"),
    "ap-south-1": ("global.", "apac.", "bedrock-ap"),
    "ca-central-1": ("ca.", "", "bedrock"),
    "sa-east-1": ("global.", "", "bedrock"),
    "me-central-1": ("global.", "", "bedrock"),
}


@pytest.mark.parametrize("region", REGIONS)
def test_models_are_called_by_the_inference_profiles_of_the_region(region):
    claude, nova, cost_basis = REGIONS[region]
    models, names = model_names(region)
    assert models == [claude + model for model in CLAUDE] + [nova + model for model in NOVA]
    assert names == cost_basis


@pytest.mark.parametrize("region", REGIONS)
def test_what_is_offered_is_known_and_has_a_price(region):
    models, cost_basis = model_names(region)
    prices = Prices.load()
    for model in models:
        assert base_id(model) in (*CLAUDE, *NOVA)
        assert capabilities(model).family in {"claude", "nova"}
        assert prices.find(cost_basis, model) is not None, model


def test_every_price_list_of_the_table_has_prices():
    assert {place.cost_basis for place in PLACES} <= set(BASES)
