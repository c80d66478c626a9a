"""What the inference app stores, one noun per file."""

from inference.models.alias import AliasChange
from inference.models.job import ENDED, JobKind, JobState, ModelJob
from inference.models.request import InferenceRequest, KeptPrompt
from inference.models.variant import Variant

__all__ = [
    "ENDED",
    "AliasChange",
    "InferenceRequest",
    "JobKind",
    "JobState",
    "KeptPrompt",
    "ModelJob",
    "Variant",
]
