"""Metrics, summaries and comparisons of measured runs: pure mathematics on `benchmarks.load.result.Result`."""
