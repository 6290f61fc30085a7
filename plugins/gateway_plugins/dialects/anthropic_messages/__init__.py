"""Anthropic's Messages API.

Other packages import its modules, because this package exports nothing itself.
Code for Claude on Bedrock is in `dialects/bedrock/`.
"""
