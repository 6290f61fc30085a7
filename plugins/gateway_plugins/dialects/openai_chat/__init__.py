"""OpenAI's Chat Completions.

Import a module by its name. What the Responses API shares stands in `dialects/openai/`.
"""
