"""Samples the machine, stores the series and tells what happened; knows nothing of inference."""
