"""Anthropic's Messages API.

Import a module by its name. Code for Claude on Bedrock stands in `dialects/bedrock/`.
"""
