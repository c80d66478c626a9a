"""Labelled prompts of people: what a model has to answer rightly in their house, kept by name."""
