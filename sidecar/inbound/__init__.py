"""One request, top to bottom: listen, find its source, verify it, name it, journal it, acknowledge it."""
