"""Parts of the site's reference that are made of the code: commands, HTTP operations, MCP tools.

Each module has `page()`, which returns Markdown; `mkdocs_hook.py` puts it where a page of `docs/` wants it.
"""
