"""What verification costs per request, in µs of CPU time, for the commonest providers: ``python tests/bench/bench_verify.py``.

Each preset's first accepted case of ``tests/vectors`` is judged over and over, as the receiver does it: ``precheck``
with the head, ``verify`` with the body. Where we can sign, a second figure is for a body of 1 KiB.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

from sidecar.inbound.verify.presets import PRESETS
from sidecar.inbound.verify.request import Accepted, Request, Secret
from sidecar.inbound.verify.schemes import compile_scheme
from sidecar.inbound.verify.send import sign_request
from sidecar.inbound.verify.vectors import parse_case, prepare

COMMONEST = (
    "github", "stripe", "shopify", "slack", "standard-webhooks", "gitlab", "meta", "twilio", "sendgrid", "discord",
)  # fmt: skip
ROUNDS = 7
VECTORS = Path(__file__).resolve().parents[1] / "vectors" / "signatures.jsonl"


def measure(verifier, request: Request, secrets: tuple[Secret, ...], now_ms: int) -> float:
    """CPU time, the median of the rounds, in µs; a request that is not accepted measures nothing."""

    def judge() -> object:
        request.parsed = None
        return verifier.precheck(request, secrets, now_ms) or verifier.verify(request, secrets, now_ms)

    verdict = judge()
    if not isinstance(verdict, Accepted):
        raise SystemExit(f"not accepted: {verdict}")
    times = []
    for _ in range(ROUNDS):
        count, started_s = 0, time.thread_time()
        while (passed_s := time.thread_time() - started_s) < 0.1:
            for _ in range(20):
                judge()
            count += 20
        times.append(passed_s / count * 1e6)
    return statistics.median(times)


def main(names: list[str]) -> None:
    """Print one line a preset."""
    cases = [parse_case(line) for line in VECTORS.read_bytes().splitlines()]
    print(f"{'preset':<20}{'µs':>8}{'µs, 1 KiB':>12}")
    for name in names or COMMONEST:
        case = next((c for c in cases if c.provider == name and c.expect == "accept"), None)
        if name not in PRESETS or case is None:
            continue
        verifier, request, secrets, now_ms = prepare(case)
        line = f"{name:<20}{measure(verifier, request, secrets, now_ms):8.1f}"
        if verifier.can_sign:
            verifier = compile_scheme(PRESETS[name].scheme)
            body = b'{"filler":"' + b"x" * 1011 + b'"}'
            headers = sign_request(
                verifier, secrets[0], body, now_ms, preset=PRESETS[name], url=b"https://h.example/in"
            )
            large = Request(b"POST", b"/in", b"", {n.lower(): v for n, v in headers}, body, b"https://h.example/in")
            line += f"{measure(verifier, large, secrets, now_ms):12.1f}"
        print(line)


if __name__ == "__main__":
    main(sys.argv[1:])
