"""An app that trusts nothing but the reference library of Standard Webhooks: 200 when ``Webhook.verify`` accepts."""

from __future__ import annotations

from collections.abc import Mapping

import recording
from standardwebhooks import Webhook, WebhookVerificationError


def main() -> None:
    """Serve."""
    options = recording.arguments()
    webhook = Webhook(options.secret)

    def check(body: bytes, headers: Mapping[str, str]) -> str:
        try:
            webhook.verify(body, dict(headers))
        except WebhookVerificationError as e:
            return str(e) or "refused"
        return ""

    recording.serve(options, check)


if __name__ == "__main__":
    main()
