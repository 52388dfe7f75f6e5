"""The command line: commands, console and dashboard."""
