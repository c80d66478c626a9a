"""What the inference app stores, one noun per file."""

from inference.models.alias import AliasChange, DecidedBy
from inference.models.api_key import ApiKey, ApiKeyMonth
from inference.models.archive import ModelArchive
from inference.models.engine import CloudMonth, Engine, EngineKind
from inference.models.event import ActionState, ModelAction, ModelEvent
from inference.models.job import ENDED, JobKind, JobState, ModelJob
from inference.models.prompt_set import PromptSet
from inference.models.proposal import Proposal, ProposalKind, ProposalState
from inference.models.pull import ModelPull
from inference.models.request import InferenceRequest, KeptPrompt
from inference.models.use import ModelUse
from inference.models.variant import Variant
from inference.models.zone import CacheZone

__all__ = [
    "ENDED",
    "ActionState",
    "AliasChange",
    "ApiKey",
    "ApiKeyMonth",
    "CacheZone",
    "CloudMonth",
    "DecidedBy",
    "Engine",
    "EngineKind",
    "InferenceRequest",
    "JobKind",
    "JobState",
    "KeptPrompt",
    "ModelAction",
    "ModelArchive",
    "ModelEvent",
    "ModelJob",
    "ModelPull",
    "ModelUse",
    "PromptSet",
    "Proposal",
    "ProposalKind",
    "ProposalState",
    "Variant",
]
