"""What the gateway knows about each dialect. Each has a folder, and files of one purpose have one name in all folders.

- `read*` reads a client's request. `demand`, `options`, `tools`, `output` and `settings` write a provider's request.
- `walk` reads a reply, `emit` writes a reply, `facts` reads a reply's usage.
- A folder imports no other folder, except that Chat and Responses import `openai`, Responses imports Chat, and
  `bedrock` imports Messages. Code that several dialects need is in `shared/`.
- No folder imports `mappings/` or `translators/`.
"""
