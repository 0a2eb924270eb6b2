"""Work on whole memories: files in and out of them, and what keeps a store whole."""

from llmspell_memory.backends.sqlite.backup import backup
from llmspell_memory.backends.sqlite.check import check
from llmspell_memory.backends.sqlite.repair import repair
from llmspell_memory.operations.formats import FORMATS, Format, Source, detect, open_source
from llmspell_memory.operations.reembed import Reembedding
from llmspell_memory.operations.transfer import ImportReport, export_jsonl, fitting, import_entries
from llmspell_memory.types import BackupReport, CheckReport, Finding, Loss, RepairReport

__all__ = [
    "FORMATS",
    "BackupReport",
    "CheckReport",
    "Finding",
    "Format",
    "ImportReport",
    "Loss",
    "Reembedding",
    "RepairReport",
    "Source",
    "backup",
    "check",
    "detect",
    "export_jsonl",
    "fitting",
    "import_entries",
    "open_source",
    "repair",
]
