"""One delivery, top to bottom: from its claim to its end.

``dispatch`` has a lane per destination (``lane``), which claims what is owed (``hand``, ``claim``, ``budget``), asks
whether to try now (``hold``), has it tried (``deliver``), and decides what the try means (``retry``, ``settle``). What is
given up gets its file (``bury``, ``deadletter``, ``folder``, ``letter``) before it leaves the journal; what nobody tries
still ends by its age (``sweep``). ``surroundings`` says what a lane is handed, ``meters`` what it counts.
"""
