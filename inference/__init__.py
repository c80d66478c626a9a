"""Serves and transforms models: engine, gateway, request records; knows nothing of monitoring."""
