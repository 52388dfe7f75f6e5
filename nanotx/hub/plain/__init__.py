"""A run as a plain state dict, with the program that reads it written beside it."""
