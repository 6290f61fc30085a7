"""Simulated providers and a simulated tailscaled, each on a socket of its own.

The modules for plugin authors and the demo:

- `bedrock`, `anthropic`, `openai`, `gemini`: the simulated providers. Use them as `async with BedrockSim() as
  upstream`.
- `scenarios`: predefined replies and faults. A prompt can name a scenario too: `[[scenario: throttle]]`.
- `simulator`: the base class for a simulated provider of your own, and the record of a received request (`Seen`).
- `localapi`: the simulated tailscaled, which says who a caller is.

Only the simulators use the other modules: `judge` and `rules/` (refusals of the real services), `render/` (replies) and
`prompts`. `judge` reads botocore's service model, which the extra `testkit` installs.
"""
