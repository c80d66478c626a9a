"""API keys of the gateway as people make, limit and revoke them; docs/keys.md has the rules."""
