"""[P] Mutants that may survive, each with the reason: mostly because the module does the same with the change."""

from __future__ import annotations

__all__ = ["EXPLAINED"]

_SLOWER = "it only asks the slow path more often, which says the same"

EXPLAINED: dict[str, dict[str, str]] = {
    "sidecar.journal.records": {
        "DeliveryRow.decode: 0 -> 1 (#2)": "the greatest state of no slots: 1 is a known state as well as 0",
    },
    "sidecar.outbound.retry": {
        "next_delay_s: retry_after_s > delay -> retry_after_s >= delay": "equal waits are the same wait",
        "parse_retry_after: '123' -> '123~'": "one of the three forms has matched, so the search never gets to a fourth",
        "parse_retry_after: 100 -> 101": "a century that is one too low is put right by the rule of 50 years",
        "parse_retry_after: 100 -> 101 (#3)": "a date a century back is past either way, and the wait 0",
    },
    "sidecar.outbound.hold": {
        "Turn: 2 -> 3": "any third number will do",
        "Hold.__init__: self._wait_s = FIRST_WAIT_S -> pass": "each hold sets it before it is read",
        "Hold.hold: self._failed.clear() -> pass": "only a success ends a hold, and that clears it too",
    },
    "sidecar.inbound.dedup": {
        "extract: b'' -> b'~'": "an unknown coding leaves the body as it is, as none does",
        "_inflate: 1 -> 2": "asked only whether there is any byte",
        "_inflate: 1 -> 2 (#2)": "two bytes over the limit are as much too many as one",
    },
    "sidecar.inbound.framing": {
        "module: 1 -> 2 (#3)": "a slice that ends behind the end is the same",
        "unread_head: end >= 0 -> end > 0": "an empty line at the very beginning is no beginning of a request either way",
        "unread_head: 0 -> 1": "as before",
        "oversize: len(line) > LINE_LIMIT -> len(line) >= LINE_LIMIT": "only saves the look at a target, which is shorter than its line",
        "oversize: 2 -> 3": "the target is the second word either way",
        "oversize: len(fields) > LINE_LIMIT -> len(fields) >= LINE_LIMIT": "only saves the look at single lines",
    },
    "sidecar.inbound.chunked": {
        "ChunkReader.__init__: self._left = 0 -> pass": "each chunk sets it before it is read",
        "ChunkReader.__init__: 0 -> 1 (#2)": "as before",
        "ChunkReader._payload: b'\\r\\n' -> b'\\r\\n~'": "never more than two bytes are compared",
        "ChunkReader._next_line: len(line) > OVERHEAD_LIMIT + 32 -> len(line) >= OVERHEAD_LIMIT + 32": "a line that is "
        "that long is refused for what is in it as well",
        "ChunkReader._next_line: 32 -> 33": "as before",
    },
    "sidecar.admin.filters": {
        "rfc3339: 0 < ms < 253402300800000 -> 0 <= ms < 253402300800000": "0 has been sorted out before",
        "id_range_ms: 1 -> 2 (#2)": "one less in the last of 128 bits is the same in the first 48",
        "Filters.query: 'utf-8' -> 'utf-8~'": "Python takes this for another spelling of UTF-8",
    },
    "sidecar.inbound.verify.jsonfield": {
        "module: '[A-Za-z0-9_.-]+' -> '[A-Za-z0-9_.-]+~'": _SLOWER,
        "read_field: len(path) - 1 -> len(path) + 1": "it only cuts out the raw bytes of a value that nobody looks into",
        "read_field: i < last -> i <= last": "as before",
        "read_field: i < last -> i <= last (#2)": "as before",
        "_too_deep: body.count(b'[') + body.count(b'{') <= MAX_DEPTH -> body.count(b'[') + body.count(b'{') < MAX_DEPTH": _SLOWER,
        "_surely_once: b'\\\\' in raw and b'\\\\u' in raw -> b'\\\\' in raw or b'\\\\u' in raw": _SLOWER,
        "_surely_once: return raw.find(spelled) == raw.rfind(spelled) -> return None": _SLOWER,
        "_occurs_twice: b' ' -> b' ~'": "commas are counted, and there is none in either",
        "_occurs_twice: kept.count(b',') + len(members) -> kept.count(b',') - len(members)": _SLOWER,
        "_occurs_twice: b',' -> b',~' (#2)": _SLOWER,
        "_occurs_twice: 1 -> 2": _SLOWER,
    },
    "sidecar.inbound.verify.timestamp": {
        "parse_timestamp: 7 -> 8": "sign and hours are there together or not at all",
        "parse_timestamp: dt.timedelta(hours=int(part[8]), minutes=int(part[9])) * (-1 if part[7] == b'-' else 1) -> "
        "dt.timedelta(hours=int(part[8]), minutes=int(part[9])) // (-1 if part[7] == b'-' else 1)": "to divide by 1 or -1 "
        "is to multiply by it",
    },
}
