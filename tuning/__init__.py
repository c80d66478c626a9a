"""Profiles, experiments, recommendations and their activation."""
