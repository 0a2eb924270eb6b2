"""The memory behind the interfaces of agent frameworks: `langgraph` and `langchain`, each an extra of its name.

Nothing here imports a framework before the module of its adapter is imported.
"""
