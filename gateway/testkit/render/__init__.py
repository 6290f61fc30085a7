"""Renderers of the simulated providers' replies, one file for each dialect.

A renderer formats the canned reply of a scenario. The refusals of a provider are in `gateway/testkit/rules/`.
"""
