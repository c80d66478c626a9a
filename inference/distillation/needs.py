"""Whether PyTorch is there: training needs it, nothing else does."""

from importlib.util import find_spec


def missing() -> str:
    """How to get it, in a sentence; empty where it is installed."""
    if find_spec("torch") is not None:
        return ""
    return (
        "Training needs PyTorch, which is not installed: `.venv/bin/pip install -r requirements-train.txt` "
        "gets it (about 4.5 GB), then start the product anew."
    )
