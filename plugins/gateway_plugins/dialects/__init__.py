"""Knowledge of each dialect, one folder each, with the same file names in all of them.

- `read*` reads a client's request, `demand`, `options`, `tools`, `output` and `settings` write a provider's.
- `walk` reads a reply, `emit` writes one, `facts` counts.
- A folder imports no other one, except within a family: Chat and Responses import `openai`, Responses imports Chat,
  `bedrock` imports Messages. Code that several need stands in `shared/`.
- No folder imports `mappings/` or `translators/`.
"""
