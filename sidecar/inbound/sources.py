"""The sources in force: taken over all at once, each with the secrets that arrived for it by handshake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sidecar.inbound.needs import Book
from sidecar.inbound.source import Source, SourceOptions
from sidecar.inbound.telling import Telling

__all__ = ["Sources"]


class Sources:
    """All configured sources.

    Attributes:
        by_path: Raw path to source. Replaced by ``configure``, never changed.
        by_name: The same by name.

    Args:
        telling: Makes the rows of each source in the metrics.
        book: The secrets that arrived by handshake; None = none ever does.
    """

    def __init__(self, telling: Telling, book: Book | None) -> None:
        self._telling = telling
        self._book = book
        self.by_path: Mapping[bytes, Source] = {}
        self.by_name: Mapping[str, Source] = {}

    def configure(self, options: Sequence[SourceOptions]) -> None:
        """Take over a configuration at once; what is not in it is forgotten.

        Raises:
            ValueError: When an option has none of its forms; nothing is changed then.
        """
        prepared = [Source(o) for o in options]
        for source in prepared:
            self._add_learned(source)
        self._telling.configure(prepared)
        self.by_path = {source.options.path: source for source in prepared}
        self.by_name = {source.name: source for source in prepared}

    def secrets_changed(self, name: str) -> None:
        """Take over the secrets that have arrived for a source, or were forgotten."""
        source = self.by_name.get(name)
        if source is not None:
            self._add_learned(source)
            self._telling.create_keys(source)

    def _add_learned(self, source: Source) -> None:
        if self._book is not None:
            source.secrets = source.options.secrets + self._book.secrets(source.name)
