"""Work on whole memories: files in and out of them."""

from llmspell_memory.operations.formats import FORMATS, Format, Source, detect, open_source
from llmspell_memory.operations.transfer import ImportReport, export_jsonl, fitting, import_entries

__all__ = [
    "FORMATS",
    "Format",
    "ImportReport",
    "Source",
    "detect",
    "export_jsonl",
    "fitting",
    "import_entries",
    "open_source",
]
