"""Amazon Bedrock's Converse API.

Other packages import its modules, because this package exports nothing itself. Code that all of Bedrock's APIs share is
in `dialects/bedrock/`.
"""
