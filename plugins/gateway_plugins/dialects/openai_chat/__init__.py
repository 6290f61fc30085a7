"""OpenAI's Chat Completions.

Import a module by its name. Code that the Responses API shares stands in `dialects/openai/`.
"""
