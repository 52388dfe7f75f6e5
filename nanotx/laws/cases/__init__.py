"""Random cases of the laws, by slot."""
