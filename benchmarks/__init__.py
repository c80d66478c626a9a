"""Workloads, load generator, runs and their comparison."""
