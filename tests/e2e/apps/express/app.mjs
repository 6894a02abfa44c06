// An Express app as people have it: stripe-node's constructEvent on the raw body, a trusted proxy in front.
// Usage: node app.mjs --port N --secret S --seen FILE
import { createHash } from "node:crypto";
import { appendFileSync } from "node:fs";
import { parseArgs } from "node:util";

import express from "express";
import Stripe from "stripe";

const { values: options } = parseArgs({
  options: { port: { type: "string" }, secret: { type: "string" }, seen: { type: "string" } },
});
const stripe = new Stripe("sk_test_unused");
const app = express();
app.set("trust proxy", "loopback"); // X-Forwarded-* from webhook-sidecar on the same machine

// express.raw, not express.json: a parsed and re-written body has another signature.
app.post("/webhooks/stripe", express.raw({ type: "*/*" }), (request, response) => {
  let refusal = "";
  try {
    stripe.webhooks.constructEvent(request.body, request.headers["stripe-signature"], options.secret);
  } catch (error) {
    refusal = error.message.split("\n")[0] || "refused";
  }
  const row = {
    at_ms: Date.now(),
    accepted: !refusal,
    refusal,
    body_sha256: createHash("sha256").update(request.body).digest("hex"),
    headers: request.headers,
    secure: request.secure,
    host: request.hostname,
  };
  appendFileSync(options.seen, JSON.stringify(row) + "\n");
  response.status(refusal ? 400 : 200).end();
});

app.listen(Number(options.port), "127.0.0.1", function () {
  console.log(`ready ${this.address().port}`);
});
