"""Readers and writers for each dialect. A dialect is the request and reply format of one API.

Each dialect has one folder. Files with the same purpose have the same name in every folder:

- `read*` reads a client's request. `demand`, `options`, `tools`, `output` and `settings` write a provider's request.
- `walk` reads a reply, `emit` writes a reply, `facts` reads a reply's usage.

Imports:

- `openai_chat` and `openai_responses` import `openai`. `openai_responses` imports `openai_chat`.
- `bedrock` imports `anthropic_messages`, and the module `usage` of `openai_chat`.
- Apart from these, no folder imports the folder of another dialect. Code that several dialects need is in `shared/`.
- No folder imports `mappings/` or `translators/`.
"""
