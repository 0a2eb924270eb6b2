"""How a LlamaIndex node is written as an entry, and read back."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from llama_index.core.schema import MetadataMode, TextNode
from llama_index.core.vector_stores.utils import metadata_dict_to_node, node_to_metadata_dict

from llmspell_memory.types import EpisodicEntry

if TYPE_CHECKING:
    from llama_index.core.schema import BaseNode

ROLE: Final = "node"
"""The role of a node's entry."""

DOCUMENT: Final = "ref_doc_id"
"""The key of an entry's metadata that names the document a node is of; absent where it is of none."""

_APART: Final = "_text_apart"
"""The key that says whether the text is the content's alone, and not in the node's JSON."""

_NAMES_OF_IT: Final = ("document_id", "doc_id", DOCUMENT)


def entry_of(node: BaseNode, namespace: tuple[str, ...]) -> EpisodicEntry:
    """Return a node's entry, with its vector if it has one; a node without text is named by its kind.

    Raises:
        InputError: its metadata or text is not acceptable to a store.
    """
    text = node.get_content(MetadataMode.NONE)
    apart = bool(text) and type(node) is TextNode  # of other kinds, text is not all the content there is
    metadata = node_to_metadata_dict(node, remove_text=apart)
    metadata[_APART] = apart
    if node.ref_doc_id is None:
        for name in _NAMES_OF_IT:
            del metadata[name]
    return EpisodicEntry(
        "nodes",
        ROLE,
        text or node.class_name(),
        id=node.node_id,
        namespace=namespace,
        timestamp=datetime.now(UTC),
        metadata=metadata,
        processed=True,  # it is what is known, not what was said
        embedding=None if node.embedding is None else np.asarray(node.embedding, dtype=np.float32),
    )


def node_of(entry: EpisodicEntry) -> BaseNode:
    """Return the node that an entry holds, without its vector."""
    metadata: dict[str, Any] = dict(entry.metadata)
    return metadata_dict_to_node(metadata, text=entry.content if metadata.get(_APART) else None)
