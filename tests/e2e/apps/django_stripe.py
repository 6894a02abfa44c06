"""A Django app as people have it: its security middleware on, and stripe-python's ``construct_event`` in a view.

It shows what an app behind webhook-sidecar needs: the view is exempt from CSRF (a provider sends no cookie), the
raw body is what is verified, ALLOWED_HOSTS has the destination's ``host``, and the proxy header says it was https.
"""

from __future__ import annotations

import django
import recording
import stripe
from django.conf import settings
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

OPTIONS = recording.arguments()
RECORDER = recording.Recorder(OPTIONS.seen)

settings.configure(
    ALLOWED_HOSTS=["shop.example.com"],
    DEBUG=False,
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
    ],
    ROOT_URLCONF=__name__,
    SECRET_KEY="for this test only",
    SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https"),
    SECURE_SSL_REDIRECT=True,
    USE_TZ=True,
)


@csrf_exempt
@require_POST
def stripe_webhook(request: HttpRequest) -> HttpResponse:
    """Take a Stripe event when the SDK accepts it."""
    refusal = ""
    try:
        stripe.Webhook.construct_event(request.body, request.headers.get("Stripe-Signature", ""), OPTIONS.secret)
    except (ValueError, stripe.SignatureVerificationError) as e:
        refusal = str(e) or type(e).__name__
    RECORDER.saw(request.body, request.headers, refusal, secure=request.is_secure(), host=request.get_host())
    return HttpResponse(status=400 if refusal else 200)


urlpatterns = [path("webhooks/stripe", stripe_webhook)]


class QuietHandler(WSGIRequestHandler):
    """Django's own handler without its request log."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the file tells all."""


def main() -> None:
    """Serve."""
    django.setup()
    from django.core.wsgi import get_wsgi_application

    server = ThreadedWSGIServer(("127.0.0.1", OPTIONS.port), QuietHandler)
    server.daemon_threads = True
    server.set_app(get_wsgi_application())
    recording.ready(server.server_port)
    server.serve_forever()


if __name__ == "__main__":
    main()
