"""Forgetting everywhere: in the log, in datasets, runs, exports, caches and diagnostic files, so that no byte is left below home.

    report = forget(store, term="Maple Street 12", who="me")
Text that models learnt cannot be taken out of their weights: every model trained on it is told, with the command that trains it
again without. Not covered: backups made by others, what Ollama's or a database server keeps, blocks of a disk that a file system
set free.
"""

from data.forgetting.course import forget
from data.forgetting.files import Touched
from data.forgetting.journal import done, finish, pending
from data.forgetting.report import Left, Report
from data.forgetting.trained import Trained

__all__ = ["Left", "Report", "Touched", "Trained", "done", "finish", "forget", "pending"]
