"""A language model that answers from a script: what it says where its prompt holds a text."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from crewai.llms.base_llm import BaseLLM
from pydantic import PrivateAttr

if TYPE_CHECKING:
    from collections.abc import Mapping


class Scripted(BaseLLM):
    """Says what stands under the first key that its prompt holds, as JSON if it is no text; all prompts are kept.

    Args:
        script: what to say, by a part of the prompt.
    """

    _script: dict[str, Any] = PrivateAttr(default_factory=dict)
    _prompts: list[str] = PrivateAttr(default_factory=list)

    def __init__(self, script: Mapping[str, Any] | None = None) -> None:
        super().__init__(model="scripted")
        self._script.update(script or {})

    @property
    def prompts(self) -> list[str]:
        return self._prompts

    def call(self, messages: Any, *_: Any, **__: Any) -> str:
        prompt = messages if isinstance(messages, str) else "\n".join(str(one["content"]) for one in messages)
        self._prompts.append(prompt)
        for part, answer in self._script.items():
            if part in prompt:
                return answer if isinstance(answer, str) else json.dumps(answer)
        raise AssertionError(f"the script has no answer to:\n{prompt}")

    def supports_function_calling(self) -> bool:
        return False
