"""The machine: where to run, in which dtype, on how many threads, within which limits."""
