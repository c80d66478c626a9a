"""The shipped sets."""

NAMES = ("image_analysis", "task_generation", "mixed")
