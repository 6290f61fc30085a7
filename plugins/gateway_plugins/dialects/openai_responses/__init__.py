"""OpenAI's Responses API.

Other packages import its modules, because this package exports nothing itself.
Code that Chat Completions and Responses share is in `dialects/openai/`.
"""
