"""Configurations from the documentation of the hosted product, and parts from which tests build other
configurations.
"""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from gateway.config.findings import ConfigError
from gateway.config.load import loads
from gateway.config.model import Provider

KNOWN: Final = ("openai_chat", "anthropic_messages", "bedrock_model_invoke", "bedrock_converse")

PRODUCT_PAGE: Final = """\
{
  "providers": {
    "bedrock": {
      "baseurl": "https://bedrock-runtime.us-east-1.amazonaws.com",
      "apikey": "<your-bedrock-api-key>",
      "authorization": "bearer",
      "models": [
        "us.anthropic.claude-haiku-4-5-20251001-v1:0",
        "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
        "us.anthropic.claude-opus-4-5-20251101-v1:0",
        "us.anthropic.claude-opus-4-6-v1"
      ],
      "cost_basis": "bedrock-us",
      "compatibility": {
        "bedrock_model_invoke": true
      }
    }
  }
}"""

TWO_REGIONS: Final = """\
{
  "providers": {
    "bedrock-us": {
      "baseurl": "https://bedrock-runtime.us-east-1.amazonaws.com",
      "apikey": "<your-us-token>",
      "authorization": "bearer",
      "models": ["us.anthropic.claude-sonnet-4-5-20250929-v1:0"],
      "cost_basis": "bedrock-us",
      "compatibility": {
        "bedrock_model_invoke": true
      }
    },
    "bedrock-eu": {
      "baseurl": "https://bedrock-runtime.eu-west-1.amazonaws.com",
      "apikey": "<your-eu-token>",
      "authorization": "bearer",
      "models": ["eu.anthropic.claude-sonnet-4-5-20250929-v1:0"],
      "cost_basis": "bedrock-eu",
      "compatibility": {
        "bedrock_model_invoke": true
      }
    }
  }
}"""

SMALLEST: Final = """\
{ "providers": { "a": { "baseurl": "https://api.anthropic.com", "apikey": "k", "authorization": "x-api-key",
    "models": ["claude-sonnet-4-5"], "compatibility": {"anthropic_messages": true} } },
  "grants": [ {"src":["*"], "app":{"tailscale.com/cap/aperture":[ {"role":"user"}, {"models":"**"} ]}} ] }
"""

NEW_INSTANCE: Final = """\
// What a new instance of the hosted product starts with.
{
  "grants": [
    {"src": ["example-user@example.com", "*"], "app": {"tailscale.com/cap/aperture": [{"role": "admin"}]}},
    {"src": ["*"], "app": {"tailscale.com/cap/aperture": [{"role": "user"}]}},
    {"src": ["*"], "app": {"tailscale.com/cap/aperture": [{"models": "**"}]}},
    {"src": [], "app": {"tailscale.com/cap/aperture": [
      {"send_hooks": [{"name": "oso", "events": ["tool_call_entire_request"], "send": ["tools"]}]},
    ]}},
  ],
  "providers": {
    "openai": {
      "baseurl": "https://api.openai.com/", "apikey": "", "models": ["gpt-5"],
      "compatibility": {"openai_chat": true, "openai_responses": true},
    },
    "anthropic": {
      "baseurl": "https://api.anthropic.com", "apikey": "", "authorization": "x-api-key",
      "models": ["claude-sonnet-4-5"],
      "compatibility": {"openai_chat": false, "anthropic_messages": true},
    },
  },
}
"""

EVERYTHING_HOSTED: Final = """\
{
  "$schema": "./irisgate.schema.json",
  "providers": {"p": {
    "baseurl": "https://example.com/v1", "apikey": "k", "models": ["m"], "auth_mode": "override",
    "model_cost_map": [{"match": "m*", "as": "gpt-5", "adjustment": 1.1}], "upstream": "u",
    "name": "P", "description": "D", "preference": 2, "disabled": false, "cost_basis": "openai",
    "add_headers": ["X-Team: a: b"],
  }},
  "grants": [{"src": ["group:eng"], "app": {
    "example.com/cap/other": [{"x": 1}],
    "tailscale.com/cap/aperture": [{
      "role": "admin", "models": "p/*", "quotas": [{"bucket": "daily:<user>"}],
      "send_hooks": [{"name": "oso", "events": ["pre_request"], "send": ["tools"]}],
      "add_headers": ["a: b"], "connectors": ["**"], "mcp_tools": "**", "mcp_resources": "**",
      "mcp_templates": "**", "skills": [], "filterable_headers": [], "direct_paths": [], "enable_chat_ui": true,
      "read_metrics": true, "read_pricing": true, "set_cors": true, "cors_paths": [],
      "Access-Control-Allow-Origin": "*",
    }],
  }}],
  "temp_grants": [
    {"src": ["*"], "grants": [
      {"role": "user"}, {"providers": [{"provider": "p", "model": "m"}]},
      {"hook": {"match": {"providers": ["*"], "models": ["*"], "events": ["x"]}, "hook": "oso", "fields": ["tools"]}},
    ]},
    {"src": ["*"], "app": {"tailscale.com/cap/aperture": [{"models": "p/**"}]}},
  ],
  "quotas": {"daily:<user>": {"capacity": "$10.00", "rate": "$5.00/day", "on_exceed": "reject"}},
  "hooks": {"oso": {
    "url": "https://example.com", "apikey": "k", "authorization": "hec", "timeout": "1m30s", "disabled": false,
    "fail_policy": "fail_closed", "preference": 1,
  }},
  "exporters": {"s3": {
    "bucket_name": "b", "endpoint": "", "region": "us-east-1", "prefix": "x", "access_key_id": "", "access_secret": "",
    "every": 3600, "limit": 1000,
  }},
  "auto_cost_basis": true,
  "database": {
    "retention": {"duration": "30d", "require_export": false, "purge": ["captures", "tools"]},
    "save_raws": false, "keep_encrypted_blobs": false,
  },
  "mcp": {"accept_registrations": true, "servers": {"wiki": {"url": "https://example.com/mcp"}}},
  "connectors": {"servers": {"docs": {"protocol": "http", "url": "https://example.com", "labels": ["x"]}}},
  "flags": {"connectors": {"value": true}},
  "model_aliases": {"strategy": "first", "models": {"fast": {"dst": ["p/m"], "strategy": "random"}}},
  "chat_models": [],
}
"""

HOSTED: Final = {
    "product page": PRODUCT_PAGE,
    "two regions": TWO_REGIONS,
    "smallest": SMALLEST,
    "new instance": NEW_INSTANCE,
    "everything": EVERYTHING_HOSTED,
}


def config(provider: dict[str, Any] | None = None, **sections: Any) -> str:
    """Return a small valid configuration, with additional members for its provider, and with additional sections."""
    whole = {
        "baseurl": "https://example.com",
        "apikey": "k",
        "models": ["m"],
        "cost_basis": "openai",
        **(provider or {}),
    }
    grants = [{"src": ["*"], "app": {"tailscale.com/cap/aperture": [{"role": "admin"}, {"models": "**"}]}}]
    return json.dumps({"providers": {"p": whole}, "grants": grants, **sections}, indent=2)


def provider(**members: Any) -> Provider:
    return loads(config(members)).config.providers["p"]


def errors(text: str, **options: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loads(text, **options)
    return [str(finding) for finding in caught.value.findings if finding.severity == "error"]


def warnings(text: str, **options: Any) -> list[str]:
    return [f"{warning.path}: {warning.message}" for warning in loads(text, **options).warnings]
