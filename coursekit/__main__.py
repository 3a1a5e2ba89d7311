"""`python -m coursekit`: the command line."""

from coursekit.cli import main

main()
