"""Amazon Bedrock's Converse API.

Import a module by its name. Code that all of Bedrock's APIs share is in `dialects/bedrock/`.
"""
