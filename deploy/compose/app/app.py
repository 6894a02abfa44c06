"""The app of docker-compose.yml: prints what it gets, and says 500 to every body with "fail" in it."""

import http.server


class App(http.server.BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:  # noqa: N802 - the name is http.server's
        """Take a webhook."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = 500 if b"fail" in body else 200
        print(status, self.path, self.headers["Webhook-Sidecar-Event-Id"], body[:200])
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()


http.server.ThreadingHTTPServer(("", 3000), App).serve_forever()
