"""[P] Mutants that may survive, each with the reason: mostly because the module does the same with the change."""

from __future__ import annotations

__all__ = ["EXPLAINED"]

_CODEC = "Python takes this for another spelling of the codec"
_LONG_PAST = "the journal's clock counts from 1970: both are long past, and nothing becomes due at either"
_FIRST_SEQ = "events are numbered from 1, so that looking from 0 on and from 1 on is the same"
_MORE_SLOTS = "it looks at more slots than it has to, and every entry is asked for its bucket"
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
        "_inflate: 31 -> 32": "zlib would then look itself whether it is gzip, which has been seen before",
        "_inflate: 1 -> 2": "two bytes over the limit are as much too many as one",
    },
    "sidecar.inbound.framing": {
        "module: 1 -> 2": "any number that is no length will do",
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
        "_too_deep: body.count(b'[') + body.count(b'{') <= MAX_DEPTH -> body.count(b'[') + body.count(b'{') < MAX_DEPTH": _SLOWER,
        "_occurs_twice: b' ' -> b' ~'": "commas are counted, and there is none in either",
    },
    "sidecar.inbound.verify.timestamp": {
        "parse_timestamp: 7 -> 8": "sign and hours are there together or not at all",
        "parse_timestamp: dt.timedelta(hours=int(part[8]), minutes=int(part[9])) * (-1 if part[7] == b'-' else 1) -> "
        "dt.timedelta(hours=int(part[8]), minutes=int(part[9])) // (-1 if part[7] == b'-' else 1)": "to divide by 1 or -1 "
        "is to multiply by it",
    },
    "sidecar.outbound.budget": {
        "Budget.fits: used + size <= self._own.get(lane, 0) -> used + size < self._own.get(lane, 0)": "the room, which is "
        "asked next, says the same",
        "Budget.fits: 0 -> 1 (#2)": "as before: only a body of no bytes is asked for less",
        "Budget.take: before > own -> before >= own": "it only works out a difference of 0",
        "Budget.take: after > own -> after >= own": "as before",
    },
    "sidecar.inbound.verify.digests": {
        "encode_digest: b'=' -> b'=~'": "there is no ~ in base64",
    },
    "sidecar.journal.meta": {
        "unpack: len(value) < _CRC.size -> len(value) <= _CRC.size": "nothing but a checksum is no row either way",
    },
    "sidecar.inbound.verify.public_key": {
        "EcdsaVerifier.__init__: 'ecdsa' -> 'ecdsa~'": "a label that nobody reads: there is one curve and one hash",
    },
    "sidecar.inbound.source": {
        "Source.takes: b'' -> b'~'": "neither is a media type",
    },
    "sidecar.inbound.forwarded": {
        "ProxyTrust._read: b'' -> b'~' (#2)": "neither is http or https",
    },
    "sidecar.outbound.deliver.url": {
        "parse_url: '' -> '~'": "neither is the name of a host",
    },
    "sidecar.inbound.verify.fields": {
        "_value: '-' -> '-~'": "nothing that begins with ~ gets there",
    },
    "sidecar.journal.dedup_recent": {
        "RecentKeys.__init__: 1 -> 2": "the last bit of an odd number does not tell how long it is",
        "RecentKeys._enter: expires_source > last_expiry -> expires_source >= last_expiry": "the same time is the same time",
        "RecentKeys.gather: bucket << bits -> bucket >> bits": _MORE_SLOTS,
        "RecentKeys.gather: (bucket + 1 << bits) - 1 >> buckets_log2 -> (bucket + 1 << bits) - 1 << buckets_log2": _MORE_SLOTS,
        "RecentKeys.gather: (bucket + 1 << bits) - 1 -> (bucket + 1 << bits) + 1": _MORE_SLOTS,
        "RecentKeys.gather: 1 -> 2 (#2)": _MORE_SLOTS,
        "RecentKeys.gather: slot < last -> slot <= last": _MORE_SLOTS,
    },
    "sidecar.journal.bloom": {
        "module: 8 -> 9": "only eight of the nine are asked for",
    },
    "sidecar.inbound.ack": {
        "_encoded: 'latin-1' -> 'latin-1~'": _CODEC,
    },
    "sidecar.outbound.deliver.headers": {
        "module: b'keep-alive' -> b'keep-alive~'": _SLOWER,
        **{
            f"module: b'{method}' -> b'{method}~'": "the form of a method that is not listed is looked at, which says the same"
            for method in ("POST", "PUT", "PATCH", "GET", "HEAD", "DELETE", "OPTIONS")
        },
        "module: 33 -> 34": "a line that is not prepared is made when it is needed, the same",
    },
    "sidecar.outbound.lane": {
        "Lane.__init__: 0 -> 1 (#4)": "a hold is told its settings before the first try",
        "Lane.__init__: 1 -> 2": "as before",
        "Lane.__init__: 0 -> 1 (#5)": "as before",
        "Lane.__init__: 1 -> 2 (#2)": "for one try at once or for two, 256 are kept ready",
        "Lane.__init__: self._timer_at_s = 0.0 -> pass": "each timer sets it before it is read",
        "Lane.__init__: 0.0 -> 1.0": "as before",
        "Lane.__init__: 1 -> 2 (#3)": "any number that no event has will do",
        **{f"Lane.{where}: 0 -> 1": _LONG_PAST for where in ("on_due", "_begin", "_finished", "_settled")},
        "Lane._begin: 'garbage' -> 'garbage~'": "whatever has no rule of its own is judged as a reset",
        "Lane._pump: now_s < hold.paused_until_s -> now_s <= hold.paused_until_s": _SLOWER,
        "Lane._arm: opens_s > now_s -> opens_s >= now_s": "at that very moment it only looks round once more",
        "Lane._arm: wait_s > 0 -> wait_s >= 0": "as before",
        "Lane._arm: self._claim.not_before_s > now_s -> self._claim.not_before_s >= now_s": "as before",
        "Lane._arm: self._timer_at_s <= at_s -> self._timer_at_s < at_s": "it only sets a new timer for the same moment",
    },
    "sidecar.model": {
        "OutcomeKind: 5 -> 6": "any number that no other has will do: it is not stored",
        "_id_start: 1 -> 2": "the steps of ten end at 0 either way",
    },
    "sidecar.journal.dedup_entries": {
        "seal_frame: 0 -> 1": "it is cut off again: the checksum takes its place",
        "newest_in_bucket: at >= 0 -> at > 0": "a header is there, not an entry",
        "newest_in_bucket: 0 -> 1 (#3)": "as before",
        "newest_in_bucket: 0 -> 1 (#5)": "as before",
        "unpack_segment: len(frame[1]) - _SEGMENT.size -> len(frame[1]) + _SEGMENT.size": "the row of a segment is as long as "
        "those of two sources",
    },
    "sidecar.outbound.letter": {
        "module: 8192 -> 8193": "one byte more has them all as well",
        **{f"_request: 'latin-1' -> 'latin-1~'{nth}": _CODEC for nth in ("", *(f" (#{n})" for n in range(2, 9)))},
        **{f"{name}: 'ascii' -> 'ascii~'": _CODEC for name in ("parse", "_lay_out", "_seal", "_ascii")},
        "_latin1: 'latin-1' -> 'latin-1~'": _CODEC,
        "_rfc3339: 0 -> 1": "it is in the second 0 either way",
    },
    "sidecar.inbound.verify.twilio": {
        "TwilioVerifier.claimed: b'' -> b'~'": "without a URL it has been refused before",
        "TwilioVerifier.covered: b'' -> b'~'": "neither is a form",
        "_signature: 'base64' -> 'base64~'": "anything but hex and base64url is read as base64",
        "_signature: b'' -> b'~'": "neither names an algorithm",
        "_fields: b'' -> b'~'": "neither is a form",
    },
    "sidecar.inbound.verify.keyed_hash": {
        "HmacVerifier._set_entries: ' ' -> ' ~'": "a blank alone is what separates, which is asked before",
        "HmacVerifier._form_body: b'' -> b'~'": "neither is a form",
        "HmacVerifier._signatures: b'' -> b'~'": "only the signatures of it are taken",
        "HmacVerifier._matches: '' -> '~'": "neither is an algorithm",
        "HmacVerifier._matches: b'' -> b'~'": "the first algorithm sets it before it is read",
        "HmacVerifier.sign: b'' -> b'~'": "where no timestamp is asked for nobody reads it",
    },
    "sidecar.inbound.verify.handshakes.unsigned": {
        "_asked: 'utf-8' -> 'utf-8~'": _CODEC,
        "_okta: 'latin-1' -> 'latin-1~'": _CODEC,
        "_braintree: b'' -> b'~'": "neither is a challenge",
        "_crc: b'' -> b'~'": "neither is a token",
        "_cloudevents: b'' -> b'~'": "neither is an origin",
        "_cloudevents: 'latin-1' -> 'latin-1~'": _CODEC,
        "_asana: b'' -> b'~'": "neither is long enough for a secret",
        "_notion: 'utf-8' -> 'utf-8~'": _CODEC,
        "_notion: 'replace' -> 'replace~'": "half a character is in no text that is read from JSON",
        "_without: b'' -> b'~'": "neither is a form",
    },
    "sidecar.inbound.verify.signed": {
        "header_names: '1' -> '1~'": "both may stand in the name of a header",
        "SignedParts.__init__: 'body' -> 'body~'": _SLOWER,
        "SignedParts._part: len(names) > 1 -> len(names) >= 1": "the same header, by the way for several names",
        "_quick: '{timestamp}' -> '{timestamp}~'": _SLOWER,
        "_quick: '{body}' -> '{body}~'": _SLOWER,
        "_quick: '{}' -> '{}~'": _SLOWER,
        "_quick: return b'%b%%b%b%%b%b' % (text[0], text[1], text[2]) -> return None": _SLOWER,
        "_encoded_target: ';,/?:@&=+$#' -> ';,/?:@&=+$#~'": "it is among the others already",
        'module: "-_.!~*\'()" -> "-_.!~*\'()~"': "it is there already",
    },
    "sidecar.inbound.verify.body_signed": {
        "AdyenVerifier.__init__: 'HmacSignature' -> 'HmacSignature~'": "the signature is in no header",
        "AdyenVerifier.claimed: 'base64' -> 'base64~'": "anything but hex and base64url is read as base64",
        "_adyen_items: return [] -> return None": "none either way",
        "_mailgun_part: b'' -> b'~'": "neither is a form",
        **{f"_mailgun_part: 'latin-1' -> 'latin-1~'{nth}": _CODEC for nth in ("", " (#2)", " (#3)")},
        "BraintreeVerifier.covered: b'\\n' -> b'\\n~'": "there is no ~ in base64",
        "BraintreeVerifier._mac: False -> True": "it matters only where a machine's policy forbids SHA-1",
        "_braintree_key: False -> True": "as before",
    },
    "sidecar.inbound.verify.certificates": {
        "module: 1400 -> 1401": "no base64 has that length",
        "PaypalVerifier._read: 'latin-1' -> 'latin-1~'": _CODEC,
        "PaypalVerifier._read: 'latin-1' -> 'latin-1~' (#2)": _CODEC,
    },
    "sidecar.inbound.verify.tokens": {
        "JwtVerifier._wrong_claim: b'' -> b'~'": "without a URL it has been refused before, where the URL counts",
        "JwtVerifier._wrong_time: 0 -> 1 (#2)": "both are long past",
        "JwtVerifier.sign: b'' -> b'~'": "without a URL nothing that it signs would be accepted",
        "JwtVerifier.secret_problem: b'{}' -> b'{}~'": "only whether it can be signed counts",
        "_b64decode: True -> False": "no other character gets there",
        "JwtVerifier._fetch: 'utf-8' -> 'utf-8~'": _CODEC,
        "JwtVerifier._wrong_claim: 'utf-8' -> 'utf-8~'": _CODEC,
        "JwtVerifier._wrong_body: 'utf-8' -> 'utf-8~'": _CODEC,
        "JwtVerifier.sign: 'utf-8' -> 'utf-8~'": _CODEC,
    },
    "sidecar.config.problems": {
        "suggestion: 1 -> 2": "only the closest is shown",
        "Report._one: 1 -> 2": "any place behind the end is the last one",
        "Report._one: 1 -> 2 (#2)": "any place before the beginning is the first one",
        "Report._is_hidden: '\"\\'' -> '\"\\'~' (#2)": "no value begins with ~",
        "Report._is_hidden: span.start <= at < span.end -> span.start <= at <= span.end": "what stands right behind a value, a "
        "blank, a comma, a bracket or a comment's sign, is never hidden",
    },
    "sidecar.config.rules": {"Listen.complaint: 'utf-8' -> 'utf-8~'": _CODEC},
    "sidecar.inbound.verify.messages": {
        **{
            f"{where}: 'latin-1' -> 'latin-1~'{nth}": _CODEC
            for where, nth in (
                ("MessageVerifier._claims", ""),
                ("MessageVerifier._base", ""),
                ("MessageVerifier.sign", ""),
                ("_from_url", ""),
                ("module", ""),
                ("module", " (#2)"),
                ("_component", ""),
                ("_digest_holds", ""),
            )
        },
        "_query_parameter: '*-._' -> '*-._~'": "Python never escapes ~",
        "_from_url: b'' -> b'~'": "without a URL it has been refused before",
        "module: b'' -> b'~'": "as before",
        "_digest_holds: b'' -> b'~'": "neither is a digest",
        "_query_parameter: '*-._' -> '*-._~' (#2)": "as before",
    },
    "sidecar.outbound.hand": {
        "module: 4 -> 5": "so much at a time was chosen, and a little more would do as well",
        "module: 20 -> 21": "as before",
        "module: 4 -> 5 (#2)": "as before; its test asks for it by its name",
        "module: 4096 -> 4097": "as before",
        "Hand.__init__: 0 -> 1 (#3)": _FIRST_SEQ,
        "Hand.plan: 0 -> 1": "whoever probes has nothing queued, which is asked in the next line",
        "Hand.take_window: 0 -> 1": _FIRST_SEQ,
        "Hand.take_window: 0 -> 1 (#2)": _FIRST_SEQ,
        "Hand.end_probing: 0 -> 1": _FIRST_SEQ,
        "Hand.take_window: self._probe_from = 0 -> pass": "what gets there looked from next on, so that it stands no higher",
        "Hand.take_due: len(self._probed) > PROBED_MOST -> len(self._probed) >= PROBED_MOST": "one more or less of thousands",
        "Hand.note_due: at_ms < self.next_due_at_ms -> at_ms <= self.next_due_at_ms": "the same time is the same time",
    },
}
