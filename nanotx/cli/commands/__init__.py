"""Verbs: what `nanotx VERB` does; a file each, whose name is the verb and whose `run(words)` gives the exit code."""
