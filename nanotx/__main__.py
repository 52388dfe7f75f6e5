"""`python -m nanotx` is `nanotx`."""

from nanotx.cli.main import main

main()
