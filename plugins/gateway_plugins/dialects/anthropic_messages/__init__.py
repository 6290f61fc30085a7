"""Anthropic's Messages API.

Import a module by its name. What Bedrock adds to Claude stands in `dialects/bedrock/`.
"""
