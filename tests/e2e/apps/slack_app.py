"""An app that trusts nothing but slack_sdk: 200 when ``SignatureVerifier`` accepts."""

from __future__ import annotations

from collections.abc import Mapping

import recording
from slack_sdk.signature import SignatureVerifier


def main() -> None:
    """Serve."""
    options = recording.arguments()
    verifier = SignatureVerifier(options.secret)

    def check(body: bytes, headers: Mapping[str, str]) -> str:
        return "" if verifier.is_valid_request(body, dict(headers)) else "is_valid_request said no"

    recording.serve(options, check)


if __name__ == "__main__":
    main()
