"""Models that no class of transformers computes, handed on with one file of code."""
