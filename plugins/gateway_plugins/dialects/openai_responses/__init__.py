"""Readers and writers of the requests and replies of OpenAI's Responses API.

This package exports nothing itself. Other packages import its modules. Code that Chat Completions and Responses share
is in `dialects/openai/`.
"""
