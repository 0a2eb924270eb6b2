"""Makes `python -m llmspell_memory.cli` the same as `llmspell-memory`."""

from llmspell_memory.cli import main

if __name__ == "__main__":
    main()
