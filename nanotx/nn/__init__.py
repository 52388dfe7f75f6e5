"""The transformer and its parts: embedding, position, attention, ffn, norm and block."""
