"""OpenAI's Chat Completions.

Other packages import its modules, because this package exports nothing itself. Code that the Responses API needs too
is in `dialects/openai/`.
"""
