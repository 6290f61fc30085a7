"""Readers and writers of the requests and replies of OpenAI's Chat Completions.

This package exports nothing itself. Other packages import its modules. Code that the Responses API needs too is in
`dialects/openai/`.
"""
