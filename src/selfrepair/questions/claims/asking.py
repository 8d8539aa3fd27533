"""The question that a claims file puts: its model, prompts and settings."""

from __future__ import annotations

from selfrepair.model.load import load
from selfrepair.prompts import Prompts
from selfrepair.questions.claims.claims_file import ClaimsFile
from selfrepair.questions.question import Question
from selfrepair.questions.question_settings import AuditSettings


def asked(claims: ClaimsFile, progress: bool = False) -> Question:
    """Loads the model and reads the prompts.

    Args:
        claims: the file's content.
        progress: whether progress is shown.

    Raises:
        SelfRepairError: a model or prompts that cannot be used.
    """
    model = {name: value for name, value in claims.model.items() if name != "id"}
    loaded = load(str(claims.model.get("id", "default")), **model)
    how = {name: value for name, value in claims.prompts.items() if name not in ("file", "metric")}
    prompts = Prompts.read(claims.beside(claims.prompts["file"]), loaded, **how)
    return Question(loaded, prompts, AuditSettings(**claims.settings), progress)
