"""Ranking by everything at once: the native core's, behind what it needs of a query."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmspell_memory import _core
from llmspell_memory.index.function_words import is_keywords, without_function_words
from llmspell_memory.index.hnsw import HNSWIndex
from llmspell_memory.index.turns import role_fact
from llmspell_memory.types import Part

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmspell_memory.index.exact import ExactIndex
    from llmspell_memory.index.keyword import KeywordIndex
    from llmspell_memory.index.labels import AnyLabelSet
    from llmspell_memory.index.turns import TurnTable
    from llmspell_memory.types import Query


def blend(
    index: ExactIndex | HNSWIndex,
    words: KeywordIndex,
    turns: TurnTable,
    query: Query,
    k: int,
    among: AnyLabelSet | None,
) -> tuple[list[int], list[float], list[Mapping[str, Part]] | None]:
    """Return labels and scores of the k best, and what their scores are made of if the query wants to know.

    What the score is made of is told in `native/blend.hpp`; what rows are worth whatever is asked does not count where
    keywords alone are given. Rows that are near in meaning, say the words, or stand
    beside such are scored; every row, where the query is to be answered exactly.

    Args:
        index: of the vectors.
        words: of the texts.
        turns: who spoke when.
        query: with its vector.
        k: how many.
        among: labels that may be returned, and that all is judged by; all when None.
    """
    language = words.config.language
    terms = words.terms(without_function_words(query.text, language))
    by_worth = not is_keywords(query.text, language)
    ef = index.ef_search if isinstance(index, HNSWIndex) else 0
    named = [role_fact(role) for role in query.roles]
    labels, scores, parts = _core.blend(
        index.core, words.core, turns.core, query.vector, terms, named, list(query.dates), min(k, len(index)), ef,
        among, by_worth, query.exact, query.parts,
    )  # fmt: skip
    return labels.tolist(), scores.tolist(), list(map(_explained, parts)) if query.parts else None


def _explained(parts: _core.BlendParts) -> Mapping[str, Part]:
    similarity, coverage, by_meaning, by_words, by_neighbours, by_session, by_role, by_time, by_worth, near, said = (
        parts
    )
    return {
        "semantic": Part(similarity, by_meaning, near or None),
        "keyword": Part(coverage, by_words, said or None),
        "neighbours": Part(by_neighbours, by_neighbours),
        "session": Part(by_session, by_session),
        "role": Part(by_role, by_role),
        "time": Part(by_time, by_time),
        "worth": Part(by_worth, by_worth),
    }
