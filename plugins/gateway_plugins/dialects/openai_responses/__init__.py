"""OpenAI's Responses API.

Import a module by its name. Code that Chat Completions shares stands in `dialects/openai/`.
"""
