"""Runs as people read them: rows of the list, the result page, comparisons, the terminal."""
