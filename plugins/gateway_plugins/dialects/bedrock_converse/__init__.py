"""Readers and writers of the requests and replies of Amazon Bedrock's Converse API.

This package exports nothing itself. Other packages import its modules. Code that all of Bedrock's APIs share is in
`dialects/bedrock/`.
"""
