"""`python -m nanotx` is `nanotx`."""

from nanotx.cli import main

main()
