"""Data: corpora, the files they are read from, and the batches of training."""
