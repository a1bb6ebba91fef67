"""Which messages of a history matter: by role, references, wording, repetition and likeness to what is asked."""

from langchain_tokopt.context.importance.classify import Importance, Level, MessageImportance

__all__ = ["Importance", "Level", "MessageImportance"]
