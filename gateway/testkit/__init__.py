"""Simulated upstreams: for the demo, for the tests, and for plugin authors.

They answer as the real services do and refuse what those refuse. What they answer is a `Scenario`: scripted by a test,
or asked for by anyone in the text of a prompt, as `[[scenario: throttle]]`.
"""
