"""The smallest useful configuration, as text.

Users who start the gateway without a configuration are shown this text. The text has the provider from Aperture's
documentation. A test loads the text.
"""

from __future__ import annotations

from typing import Final

MINIMAL: Final = """\
// config.hujson: JSON with comments and trailing commas.
{
  "providers": {
    "bedrock": {
      // The region is part of the address. A second region is a second provider, under another key.
      "baseurl": "https://bedrock-runtime.us-east-1.amazonaws.com",
      // A Bedrock API key, or where it is: "env:AWS_BEARER_TOKEN_BEDROCK", "file:/run/secrets/bedrock-key".
      "apikey": "<your-bedrock-api-key>",
      "authorization": "bearer",
      // Model names as Bedrock has them, with region prefix and version suffix.
      "models": [
        "us.anthropic.claude-haiku-4-5-20251001-v1:0",
        "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
        "us.anthropic.claude-opus-4-5-20251101-v1:0",
        "us.anthropic.claude-opus-4-6-v1",
      ],
      // The price list: "bedrock-us", "bedrock-eu" or "bedrock". Without it costs are unknown.
      "cost_basis": "bedrock-us",
      "compatibility": {
        "bedrock_model_invoke": true,
        "bedrock_converse": true,
      },
    },
  },
  // Short names that clients may use as well.
  "model_aliases": {
    "models": {
      "haiku": { "dst": ["bedrock/us.anthropic.claude-haiku-4-5-20251001-v1:0"] },
      "sonnet": { "dst": ["bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0"] },
    },
  },
  // Everything is denied that no grant allows. This one lets everyone who can connect use every model.
  "grants": [
    {
      "src": ["*"],
      "app": {
        "tailscale.com/cap/aperture": [
          { "role": "user" },
          { "models": "bedrock/**" },
        ],
      },
    },
    // Whoever works on this machine sees everybody's sessions and may manage the gateway. A role gives no models.
    {
      "src": ["(loopback)"],
      "app": { "tailscale.com/cap/aperture": [{ "role": "admin" }, { "models": "bedrock/**" }] },
    },
  ],
}
"""
