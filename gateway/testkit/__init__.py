"""Simulated providers and a simulated tailscaled, each on a socket of its own.

The modules for plugin authors and the demo:

- `bedrock`, `anthropic`, `openai`, `gemini`: the simulated providers, `async with BedrockSim() as simulated:
  simulated.url`.
- `scenarios`: predefined replies and faults. A prompt can choose a scenario too, by `[[scenario: throttle]]`.
- `simulator`: the base class for a simulated provider of your own, and the record of a received request (`Seen`).
- `localapi`: the simulated tailscaled, which says who a caller is.

The modules that only the simulators use: `judge` and `rules/` (refusals of the real services), `render/` (replies) and
`prompts`. `judge` reads botocore's service model, which the extra `testkit` installs.
"""
