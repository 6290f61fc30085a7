"""Readers and writers of each dialect, that is, of the request and reply format of one API.

Each dialect has one folder. Files with the same purpose have the same name in every folder:

- `read*` reads a client's request. `demand`, `options`, `tools`, `output` and `settings` write a provider's request.
- `walk` reads a reply, `emit` writes a reply, `facts` reads a reply's usage.

Imports:

- The folders of dialects do not import each other, with these exceptions: Chat and Responses import `openai`, Responses
  imports Chat, and `bedrock` imports Messages. Code that several dialects need is in `shared/`.
- No folder imports `mappings/` or `translators/`.
"""
