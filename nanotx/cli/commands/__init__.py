"""Commands of `nanotx COMMAND`: one file per command, named like it; its `run(argv)` returns the exit code."""
