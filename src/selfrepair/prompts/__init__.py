"""Prompts of one's own: texts with right and wrong answers, corrupted twins, groups and named spans."""

from selfrepair.prompts.prompt import Dropped, Prompt, PromptsDropped
from selfrepair.prompts.prompts import Prompts

__all__ = ["Dropped", "Prompt", "Prompts", "PromptsDropped"]
