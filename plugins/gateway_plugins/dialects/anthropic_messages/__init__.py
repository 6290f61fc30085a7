"""Readers and writers of the requests and replies of Anthropic's Messages API.

This package exports nothing itself. Other packages import its modules. Code for Claude on Bedrock is in
`dialects/bedrock/`.
"""
