"""The page at `/`: the memory to look at, HTML, CSS and ES modules that lie in `static/`, and what only they ask for.

Nothing is built, nothing comes from another host; the page asks the same operations as everybody, with the same keys.
"""
