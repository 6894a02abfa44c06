"""The command line: one file for each group of commands, loaded when it is asked for.

``sidecar.cli.app`` is the entry. Commands that look into a running daemon go through its admin socket
(``client``); where no daemon runs, those that only look open the journal themselves (``offline``).
"""
