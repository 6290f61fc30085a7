"""Simulated providers and a simulated tailscaled, each on a socket of its own.

Plugin authors and the demo need:

- `bedrock`, `anthropic`, `openai`: the simulated providers, `async with BedrockSim() as simulated: simulated.url`.
- `scenarios`: replies and faults to script. Anyone may choose one in a prompt too, as `[[scenario: throttle]]`.
- `simulator`: the base of a provider of your own, and the requests that arrived (`Seen`).
- `localapi`: the simulated tailscaled, which says who a caller is.

The simulators themselves need `judge` and `rules/` (refusals of the real services), `render/` (replies) and `prompts`.
`judge` reads botocore's service model, which comes with the extra `testkit`.
"""
