"""Replies of the simulated providers, one file for each dialect.

A renderer makes a reply from a scenario. What a provider refuses is in `gateway/testkit/rules/`.
"""
