"""The memory behind the interfaces of agent frameworks.

`langgraph`, `langchain`, `llama_index`, `openai_agents`, `google_adk` and `crewai` are each an extra of that name.
`mem0` has the verbs of mem0's `Memory`, and needs nothing.

Nothing here imports a framework before the module of its adapter is imported.
"""
