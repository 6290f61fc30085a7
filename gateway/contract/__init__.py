"""The plugin contract: the one package of the gateway that a plugin may import.

- `flag`: the protocols of compatibility flags (plugins of one API format), translators and observers, and the values
  that these plugins and the gateway exchange.
- `filter`: the protocols of filters, and the values that filters and the gateway exchange.
- `places`: the places of text in requests and replies. By them, filters find the text in every API format.
- `samples`: samples with which `irisgate plugins check NAME` tests a plugin.
- `errors`: problems, and the exceptions that carry them. A plugin refuses a request with `invalid(message, param)`.
- `client_api`: facts about the clients of an API. With them, the gateway explains a wrong base URL.
- `json_api`: functions for compatibility flags with JSON bodies.
- `sse_api`: the decoder and the encoder of compatibility flags whose streams are server-sent events.
- `array_api`: the encoder of compatibility flags that send a JSON array as a stream.
- `framing`: parsers and writers of server-sent events, JSON arrays and AWS event streams, without I/O.
- `billing`: the parts of a request that are not billed by the length of their text, such as images.
- `capabilities`: the capabilities of each model. Plugins read them from `target.caps`.
- `provider_errors`: problems that a provider's error reply reports.
- `globs`: patterns of model names.
- `lenient_json`: a JSON parser that accepts incomplete characters (halves of surrogate pairs).
- `members`: the keys and values at the top level of a JSON body.
- `model_lists`: lists of models, in the formats of the clients.
- `session_ids`: the ids by which the body of a request names its session.
- `openings`: the system prompt and the first user message of a chat. They identify its session if the client does not.

`flag` and `filter` also export the classes of `codecs`, `facts`, `messages`, `settings`, `translator` and others. All
other modules, such as `registry`, are for the gateway itself. This package imports no other package of the gateway,
and does not use the network. `plugins/reference.md` is generated from the public modules.
"""
