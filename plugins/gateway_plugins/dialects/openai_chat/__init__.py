"""OpenAI's Chat Completions.

Import its modules one by one: this package exports nothing. Code that the Responses API needs too is in
`dialects/openai/`.
"""
