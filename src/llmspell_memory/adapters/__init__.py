"""The memory behind the interfaces of agent frameworks: `langgraph`, `langchain` and `openai_agents`, each an extra.

`mem0` has the verbs of mem0's `Memory`, and needs nothing.

Nothing here imports a framework before the module of its adapter is imported.
"""
