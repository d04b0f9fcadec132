"""``python -m pneumoseg.pipeline`` is the command: distributed runs start by module name."""

from pneumoseg.pipeline.cli.app import main

main()
