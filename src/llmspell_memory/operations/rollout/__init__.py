"""Trying a store beside the one that serves: followed, compared, promoted, rolled back."""

from llmspell_memory.operations.rollout.figures import Bar, Latencies, RolloutReport, RolloutState
from llmspell_memory.operations.rollout.rollout import Rollout

__all__ = ["Bar", "Latencies", "Rollout", "RolloutReport", "RolloutState"]
