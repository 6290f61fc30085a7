"""Amazon Bedrock's Converse API.

Import a module by its name. Code that all of Bedrock's flags share stands in `dialects/bedrock/`.
"""
