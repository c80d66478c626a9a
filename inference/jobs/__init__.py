"""The queue of heavy work on models: one at a time per host, in a process of its own (inference/work)."""
