"""The memory behind the interfaces of agent frameworks: `langgraph`, `langchain` and `openai_agents`, each an extra.

Nothing here imports a framework before the module of its adapter is imported.
"""
