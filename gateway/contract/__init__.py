"""The plugin contract: the one package of the gateway that a plugin may import.

- `flag`: the protocols `Flag`, `Translator` and `Observer`, and every value between a plugin and the gateway.
- `errors`: problems, and the exceptions that carry them; a plugin refuses a request with `invalid(message, param)`.
- `json_api`: bricks for flags that speak JSON bodies and server-sent events.
- `framing`: server-sent events and AWS event streams, without I/O.
- `capabilities`: what a model can do; plugins read `target.caps`.
- `globs`, `lenient_json`, `members`: patterns of models, JSON with lone surrogates, a body's top-level members.

`registry`, `defaults`, `conversions`, `losses` and `record` are for the gateway itself. Everything here is pure: no
network, no await, no configuration beyond a call's target. Nothing else of the gateway is imported.
"""
