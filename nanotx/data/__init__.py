"""Data: corpora, the files they are read from, and the batches that training takes of them."""
