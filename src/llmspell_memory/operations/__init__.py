"""Work on whole memories: files in and out of them, what keeps a store whole, and what makes it quick."""

from llmspell_memory.backends.sqlite.backup import backup
from llmspell_memory.backends.sqlite.check import check
from llmspell_memory.backends.sqlite.repair import repair
from llmspell_memory.operations.files.formats import FORMATS, Format, Source, detect, open_source
from llmspell_memory.operations.files.transfer import ImportReport, export_jsonl, fitting, import_entries
from llmspell_memory.operations.migration.follow import Follower
from llmspell_memory.operations.migration.migrate import migrate
from llmspell_memory.operations.migration.report import MigrationPlan, MigrationReport
from llmspell_memory.operations.migration.rollback import rollback
from llmspell_memory.operations.prometheus import prometheus_text
from llmspell_memory.operations.reembed import Reembedding
from llmspell_memory.operations.rollout import Bar, Rollout, RolloutReport
from llmspell_memory.operations.tuning.advice import Advice, AdvicePoint
from llmspell_memory.operations.tuning.advising import advise
from llmspell_memory.operations.tuning.plots import checked_plot
from llmspell_memory.operations.tuning.report import TunePoint, TuneReport
from llmspell_memory.operations.tuning.tuning import tune
from llmspell_memory.types import BackupReport, CheckReport, Finding, Loss, RepairReport

__all__ = [
    "FORMATS",
    "Advice",
    "AdvicePoint",
    "BackupReport",
    "Bar",
    "CheckReport",
    "Finding",
    "Follower",
    "Format",
    "ImportReport",
    "Loss",
    "MigrationPlan",
    "MigrationReport",
    "Reembedding",
    "RepairReport",
    "Rollout",
    "RolloutReport",
    "Source",
    "TunePoint",
    "TuneReport",
    "advise",
    "backup",
    "check",
    "checked_plot",
    "detect",
    "export_jsonl",
    "fitting",
    "import_entries",
    "migrate",
    "open_source",
    "prometheus_text",
    "repair",
    "rollback",
    "tune",
]
