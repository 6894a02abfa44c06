"""webhook-sidecar: receive a webhook, put it on disk, acknowledge it, deliver it.

In the order the data flows: ``inbound`` takes one request from its first byte to its ack, ``journal`` is
the only code that knows LMDB, ``outbound`` takes one delivery from its claim to its end. ``admin`` and
``cli`` look in from the side, ``config`` says what there is, ``daemon`` puts it together.
"""

__version__ = "0.1.0"
