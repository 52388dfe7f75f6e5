"""Modules that the tokenizer commands share."""
