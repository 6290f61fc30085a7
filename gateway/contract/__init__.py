"""The plugin contract: the one package of the gateway that a plugin may import.

- `flag`: the protocols of compatibility flags (plugins of one API format), translators and observers, and the types of
  their arguments and results.
- `filter`: the protocols of filters, and the types of their arguments and results.
- `places`: the paths of the texts in requests and replies. Filters find the texts with these paths.
- `samples`: requests and replies with which `irisgate plugins check NAME` tests a plugin.
- `errors`: problems, and the exceptions that carry them. A plugin refuses a request with `invalid(message, param)`.
- `client_api`: facts about the clients of an API, to explain a wrong base URL.
- `json_api`: functions for compatibility flags with JSON bodies.
- `sse_api`: the decoder and the encoder of compatibility flags whose streams are server-sent events.
- `array_api`: the encoder of compatibility flags that send a JSON array as a stream.
- `framing`: parsers and writers of server-sent events, JSON arrays and AWS event streams, without I/O.
- `billing`: the parts of a request that are not billed by the length of their text, such as images.
- `capabilities`: the capabilities of each model. Plugins read them from `target.caps`.
- `provider_errors`: functions that read a provider's error reply.
- `globs`: patterns of model names.
- `lenient_json`: a JSON parser that accepts lone halves of surrogate pairs.
- `members`: the keys and values at the top level of a JSON body.
- `model_lists`: lists of models, in the formats of the clients.
- `session_ids`: session ids in the body of a request.
- `openings`: the system prompt and the first user message of a chat. The gateway finds a session by these texts if the
  client sends no session id.

Plugins import the classes of `codecs`, `facts`, `messages`, `settings` and `translator` from `flag` or `filter`. All
other modules, such as `registry`, are for the gateway itself.

This package imports no other package of the gateway, and does not use the network. `plugins/reference.md` is generated
from the docstrings of the public modules.
"""
