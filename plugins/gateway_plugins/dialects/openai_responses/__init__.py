"""OpenAI's Responses API.

Import a module by its name. Code that Chat Completions and Responses share is in `dialects/openai/`.
"""
