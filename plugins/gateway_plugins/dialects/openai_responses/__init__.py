"""OpenAI's Responses API.

Import a module by its name. What Chat Completions shares stands in `dialects/openai/`.
"""
