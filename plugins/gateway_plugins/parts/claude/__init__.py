"""Anthropic's dialect in Bedrock's envelopes: what of it Claude takes there, and the betas that go along."""
