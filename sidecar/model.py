"""[P] The nouns that cross the lanes: event, delivery, attempt, outcome, and the closed vocabularies.

Nothing here does anything: values in, values out. The journal stores these, the inbound lane makes
events, the outbound lane makes attempts and outcomes.
"""

from __future__ import annotations

import enum
import functools

import msgspec

__all__ = [
    "ACK_DEFAULT",
    "AckTemplate",
    "Attempt",
    "Delivery",
    "DeadReason",
    "Event",
    "Outcome",
    "OutcomeKind",
    "Refusal",
    "RejectReason",
    "State",
    "format_event_id",
    "parse_event_id",
]


class State(enum.IntEnum):
    """Where a delivery is in its life. The numbers are stored in the journal: never reuse one.

    ``in_flight`` is not here: it lives in the dispatcher's memory only, so a crash repeats an attempt
    uncounted instead of losing it.
    """

    ABSENT = 0  # this slot of a block has no delivery for this destination
    PENDING = 1
    DYING = 2  # given up; its dead-letter file is still to be written
    DELIVERED = 3
    DEAD = 4
    DISCARDED = 5
    REDIRECTED = 6  # left this destination for another one, by an operator's hand

    @property
    def word(self) -> str:
        """The state as it is written in answers, logs and metrics."""
        return self.name.lower()

    @property
    def is_open(self) -> bool:
        """Whether the delivery is still owed (counted as pending by the audit)."""
        return self in (State.PENDING, State.DYING)


class Refusal(enum.StrEnum):
    """Why a request got no ack: error code of the answer, ``outcome`` label and log field at once."""

    BAD_FRAMING = "bad_framing"
    BAD_HOST = "bad_host"
    BAD_HEADER = "bad_header"
    BAD_REQUEST = "bad_request"
    DUPLICATE_HEADER = "duplicate_header"
    EMPTY_BODY = "empty_body"
    TOO_MANY_CHUNKS = "too_many_chunks"
    UNAUTHORIZED = "unauthorized"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    TIMEOUT = "timeout"
    BODY_TOO_LARGE = "body_too_large"
    TARGET_TOO_LONG = "target_too_long"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    EXPECTATION_FAILED = "expectation_failed"
    MISDIRECTED = "misdirected"
    HEADERS_TOO_LARGE = "headers_too_large"
    UNSUPPORTED_TRANSFER_CODING = "unsupported_transfer_coding"
    HTTP_VERSION = "http_version"
    STORAGE_FULL = "storage_full"
    STORAGE_ERROR = "storage_error"
    SHUTTING_DOWN = "shutting_down"
    OVERLOADED = "overloaded"
    KEYS_UNAVAILABLE = "keys_unavailable"
    INTERNAL_ERROR = "internal_error"


class RejectReason(enum.StrEnum):
    """Why a signature check failed: ``reason`` label and log field. Never told to the sender."""

    MISSING_HEADER = "missing_header"
    MALFORMED_SIGNATURE = "malformed_signature"
    MALFORMED_TIMESTAMP = "malformed_timestamp"
    TOO_MANY_SIGNATURES = "too_many_signatures"
    WRONG_SECRET = "wrong_secret"  # noqa: S105 - a reason, not a secret
    STALE_TIMESTAMP = "stale_timestamp"
    FUTURE_TIMESTAMP = "future_timestamp"
    RETIRED_SECRET = "retired_secret"  # noqa: S105
    NO_ACTIVE_SECRET = "no_active_secret"  # noqa: S105
    UNSUPPORTED_VERSION = "unsupported_version"
    MALFORMED_BODY = "malformed_body"
    MISSING_SIGNATURE = "missing_signature"
    BODY_NOT_COVERED = "body_not_covered"
    BODY_MODIFIED_SUSPECTED = "body_modified_suspected"
    WRONG_CLAIM = "wrong_claim"
    FORBIDDEN_KEY_SOURCE = "forbidden_key_source"
    UNKNOWN_KEY = "unknown_key"
    KEY_UNAVAILABLE = "key_unavailable"
    HANDSHAKE_NOT_EXPECTED = "handshake_not_expected"


class DeadReason(enum.StrEnum):
    """Why a delivery was given up: ``reason`` of the dead letter and label of ``dead_lettered_total``."""

    REJECTED = "rejected"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    EXPIRED = "expired"


class OutcomeKind(enum.IntEnum):
    """What one try means for the delivery."""

    DELIVERED = 1
    RETRYABLE = 2  # a failed attempt: counts, tried again by the schedule
    PERMANENT = 3  # the backend refused this event for good
    UNREACHABLE = 4  # nothing reached the backend: no attempt used, the destination is held
    INTERRUPTED = 5  # we stopped it (shutdown, pause): no attempt used


class Outcome(msgspec.Struct, frozen=True):
    """The judged result of one try.

    Attributes:
        kind: What it means for the delivery.
        label: Metric label: ``2xx``, ``3xx``, ``4xx``, ``5xx``, ``timeout``, ``reset``, ``connect``, ``tls``,
            ``interrupted``.
        status: The backend's status code; None when there was no complete answer head.
        error: Short fixed text for people; never bytes from the backend.
        retry_after_s: The backend's own wish, already parsed; None when it gave none or junk.
        speaks_about_backend: True for the results that, repeated for different events, hold a destination
            (timeout, reset, 429, 502, 503, 504, 401, 403, 404).
    """

    kind: OutcomeKind
    label: str
    status: int | None = None
    error: str = ""
    retry_after_s: float | None = None
    speaks_about_backend: bool = False


class Attempt(msgspec.Struct, frozen=True, array_like=True):
    """One counted try of one delivery, as the journal and the dead letter keep it."""

    number: int  # 1, 2, ... within its round
    started_at_ms: int  # wall clock, UTC
    duration_ms: int
    outcome: str  # Outcome.label
    status: int | None = None
    error: str = ""
    round: int = 0


class AckTemplate(msgspec.Struct, frozen=True, array_like=True):
    """How an accepted event is answered; a duplicate gets the same template again.

    Attributes:
        status: 200 to 299.
        content_type: Value of Content-Type; empty = no such header.
        body: The bytes; with ``with_id`` every ``{id}`` in it is replaced by the event id.
        with_id: Whether ``{id}`` is replaced.
    """

    status: int
    content_type: str
    body: bytes
    with_id: bool = False


ACK_DEFAULT = AckTemplate(200, "application/json", b'{"status":"accepted","id":"{id}"}', with_id=True)


class Event(msgspec.Struct):
    """One accepted request: the bytes as received and what we know about them.

    Persistent fields come first; ``forward_head`` is an in-memory cache of the outbound lane.
    ``seq`` and ``id`` are given by the journal's ``append``.
    """

    source: str
    destinations: tuple[str, ...]
    received_at_ms: int  # wall clock, UTC: for display, ids and signature tolerance only
    method: bytes
    path: bytes  # raw, as received, without the query
    query: bytes  # raw, without "?"; empty when there was none
    headers: list[tuple[bytes, bytes]]  # as received: order, case and repeats kept
    body: bytes  # exactly as received, never inflated
    verified: bool = False  # False: the source has scheme "none", or an operator replayed it unproven
    key: str = ""  # the provider's own id where it is printable ASCII of at most 256, for people to search
    forwarded_for: bytes = b""
    forwarded_proto: bytes = b""
    forwarded_host: bytes = b""
    replay_of: str = ""  # event id this one was made from (an edited or foreign dead letter)
    accepted_at_ms: int = 0  # journal clock
    seq: int = 0
    id: str = ""
    block: int = 0  # first seq of the block it is stored in: the journal's own
    forward_head: bytes | None = None  # in memory only


class Delivery(msgspec.Struct):
    """One event owed to one destination, as claimed from the journal."""

    event: Event
    destination: str
    state: State = State.PENDING
    round: int = 0  # 0 at first, n after the n-th replay
    attempts: int = 0  # counted tries made in this round
    started_at_ms: int = 0  # journal clock: acceptance, or the last replay; max_age counts from here
    due_at_ms: int = 0  # journal clock; 0 = fresh, never put off
    reason: str = ""  # DeadReason once given up
    log: tuple[Attempt, ...] = ()  # the last 32 attempts, over all rounds

    @property
    def ref(self) -> tuple[int, int, int]:
        """What a settlement must still find in the journal: (seq, round, attempts)."""
        return (self.event.seq, self.round, self.attempts)


# --- event ids -----------------------------------------------------------------------------------

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford base32: no I, L, O, U
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]
_VALUES = {c: i for i, c in enumerate(_ALPHABET)}
_PREFIX = "wse_"


def format_event_id(received_at_ms: int, journal_id: int, seq: int) -> str:
    """Build the public id of an event: ``wse_`` + 26 Crockford base32 characters.

    Args:
        received_at_ms: Wall clock at receipt, 48 bits; ids sort by it.
        journal_id: The journal's own random number, 32 bits; makes ids unique across replicas.
        seq: The event's number in its journal, 48 bits; gives the look-up key back.
    """
    p = _PAIRS
    return (
        _id_start(received_at_ms, journal_id, (seq >> 40) & 0xFF)
        + p[(seq >> 30) & 1023]
        + p[(seq >> 20) & 1023]
        + p[(seq >> 10) & 1023]
        + p[seq & 1023]
    )


@functools.lru_cache(maxsize=64)
def _id_start(received_at_ms: int, journal_id: int, seq_top: int) -> str:
    """The first 22 characters: events of one millisecond share them."""
    n = ((received_at_ms & 0xFFFFFFFFFFFF) << 40) | ((journal_id & 0xFFFFFFFF) << 8) | seq_top
    return _PREFIX + "".join([_PAIRS[(n >> shift) & 1023] for shift in range(80, -1, -10)])


def parse_event_id(text: str) -> tuple[int, int, int] | None:
    """Take an event id apart into (received_at_ms, journal_id, seq).

    Returns:
        None when the text is not exactly of the form that ``format_event_id`` makes.
    """
    if len(text) != 30 or not text.startswith(_PREFIX):
        return None
    n = 0
    for c in text[4:]:
        v = _VALUES.get(c)
        if v is None:
            return None
        n = (n << 5) | v
    if n >> 128:
        return None
    return (n >> 80, (n >> 48) & 0xFFFFFFFF, n & 0xFFFFFFFFFFFF)
