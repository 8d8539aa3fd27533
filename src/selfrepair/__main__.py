"""`python -m selfrepair`: the command line."""

from selfrepair.cli import main

main()
