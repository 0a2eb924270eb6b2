"""A conversation that remembers: what is said is kept, and what was said before is put before the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from llmspell_memory.errors import EpisodicError, MissingDependencyError
from llmspell_memory.types import EpisodicEntry, Filter
from llmspell_memory.types.ids import new_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmspell_memory.memory import EpisodicMemory
    from llmspell_memory.retrieval import Context

_INSTRUCTION: Final = (
    "You remember earlier conversations with this user. What of them may matter now is below, with when it was said; "
    "rely on it where it answers, and say so where it does not.\n\n"
)
_SECONDS: Final = 120.0
_DETAIL: Final = 300
"""Characters of an endpoint's complaint that are shown."""


class EndpointError(EpisodicError):
    """The endpoint of the model could not answer; says why."""


class Endpoint:
    """A model behind the `/chat/completions` that OpenAI's API and many servers have.

    Args:
        url: what stands before `/chat/completions`.
        model: its name there.
        key: sent as bearer token where it is given; shown nowhere.

    Raises:
        MissingDependencyError: httpx is not installed.
    """

    def __init__(self, url: str, model: str, *, key: str | None) -> None:
        try:
            import httpx  # noqa: PLC0415 (its package is optional)
        except ImportError as error:
            raise MissingDependencyError("httpx", extra="openai") from error
        self._httpx = httpx
        self._url = f"{url.rstrip('/')}/chat/completions"
        self._model = model
        self._client = httpx.Client(timeout=_SECONDS, headers={"Authorization": f"Bearer {key}"} if key else {})

    def answer(self, messages: Sequence[dict[str, str]]) -> str:
        """Return what the model says to these messages.

        Raises:
            EndpointError: it cannot be reached, or its answer is none.
        """
        try:
            given = self._client.post(self._url, json={"model": self._model, "messages": list(messages)})
        except (self._httpx.HTTPError, self._httpx.InvalidURL) as error:
            raise EndpointError(f"{self._url} cannot be reached: {error}") from error
        if given.is_error:
            raise EndpointError(f"{self._url} answered {given.status_code}: {given.text[:_DETAIL]}")
        try:
            said = given.json()["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError) as error:
            raise EndpointError(f"{self._url} gave no answer of the usual shape: {given.text[:_DETAIL]}") from error
        if not isinstance(said, str) or not said.strip():
            raise EndpointError(f"{self._url} answered without a text")
        return said

    def close(self) -> None:
        """Close its connections."""
        self._client.close()


class Turn(NamedTuple):
    """What was remembered before an answer, and the answer; None without a model."""

    remembered: Context
    answer: str | None


class Conversation:
    """One session with a memory and, where there is one, a model.

    Args:
        memory: keeps every turn.
        endpoint: of the model.
        session: the session's id.
        budget: tokens that what is remembered may count, and as many again the session itself.
    """

    def __init__(self, memory: EpisodicMemory, endpoint: Endpoint | None, *, session: str, budget: int) -> None:
        self._memory = memory
        self._endpoint = endpoint
        self._session = session
        self._budget = budget

    def say(self, text: str) -> Turn:
        """Keep what the user says, and return what comes of it; the answer is kept, too.

        Raises:
            EndpointError: the model did not answer; what the user said is kept.
        """
        remembered = self._memory.context(text, budget_tokens=self._budget)
        messages = self._messages(text, remembered)
        self._keep("user", text)
        if self._endpoint is None:
            return Turn(remembered, None)
        answer = self._endpoint.answer(messages)
        self._keep("assistant", answer)
        return Turn(remembered, answer)

    def _messages(self, text: str, remembered: Context) -> list[dict[str, str]]:
        so_far = self._memory.recall_session(self._session, budget_tokens=self._budget)
        kept = {name for _, name in so_far.sources}
        turns = [one for one in self._memory.scan(Filter(session_id=self._session)) if one.id in kept]
        known = [{"role": "system", "content": _INSTRUCTION + remembered.text}] if remembered.text else []
        return [
            *known,
            *({"role": "assistant" if one.role == "assistant" else "user", "content": one.content} for one in turns),
            {"role": "user", "content": text},
        ]

    def _keep(self, role: str, text: str) -> None:
        self._memory.add(EpisodicEntry(self._session, role, text))


def new_session() -> str:
    """Return the id of a new session."""
    return f"chat-{new_id()}"


def told(turn: Turn, text: str) -> dict[str, Any]:
    """Return a turn as a JSON object."""
    sources = [[list(below), name] for below, name in turn.remembered.sources]
    return {"said": text, "answer": turn.answer, "remembered": turn.remembered.text, "sources": sources}
