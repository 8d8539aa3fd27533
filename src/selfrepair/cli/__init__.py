"""The command line: one file per verb."""

from selfrepair.cli.app import main as main
