"""What a model job does, in a process of its own: `python -m inference.work < PLAN`. No Django.

It tells what happens as JSON lines: `step` (progress), `made`, `speed`, `quality`, `score`, and at the end `done` or `error`."""
