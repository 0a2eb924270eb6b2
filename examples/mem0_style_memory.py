"""A program written for mem0's `Memory`, with its import changed.

It needs no network, no key and no language model.

    pip install llmspell-memory
    python examples/mem0_style_memory.py
"""

from __future__ import annotations

from llmspell_memory.adapters.mem0 import Memory  # was: from mem0 import Memory


def main() -> None:
    """Remember something of two people, look it up, change it and forget it."""
    memory = Memory()
    messages = [
        {"role": "user", "content": "I am allergic to walnuts."},
        {"role": "assistant", "content": "No walnuts in your bread, then."},
    ]
    memory.add(messages, user_id="erik", metadata={"topic": "health"})
    memory.add("I love walnuts.", user_id="eve")

    for found in memory.search("is he allergic?", filters={"user_id": "erik"}, top_k=1)["results"]:
        print(found["user_id"], "said:", found["memory"])
        memory.update(found["id"], "I am allergic to walnuts and almonds.")
        for change in memory.history(found["id"]):
            print(change["event"], "->", change["new_memory"])
    memory.delete_all(user_id="erik")
    print([len(memory.get_all(filters={"user_id": user})["results"]) for user in ("erik", "eve")])


if __name__ == "__main__":
    main()
