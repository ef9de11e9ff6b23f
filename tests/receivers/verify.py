"""Judges deliveries by the public library: a JSON document a line in, `accepted` or `refused` a line out."""

import base64
import json
import sys

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

for line in sys.stdin:
    one = json.loads(line)
    try:
        Webhook(one["secret"]).verify(base64.b64decode(one["body"]), one["headers"])
        print("accepted")
    except WebhookVerificationError:
        print("refused")
