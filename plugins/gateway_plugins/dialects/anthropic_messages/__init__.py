"""Anthropic's Messages API.

Import its modules one by one: this package exports nothing. Code for Claude on Bedrock is in `dialects/bedrock/`.
"""
