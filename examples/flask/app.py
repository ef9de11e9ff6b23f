"""Hears how videos end. Verifies what it is sent, takes each event once, answers at once."""

import os
import sys

from flask import Flask, request
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

secret = os.environ.get("WEBHOOK_SECRET")
if not secret:
    sys.exit("WEBHOOK_SECRET is not set; `reelhook endpoint add` shows it once")
webhook = Webhook(secret)
app = Flask(__name__)

# In your application: a table with a unique column, written in the transaction that does the work.
taken = set()


def take(event):
    job = event["data"]
    if event["type"] == "job.completed":
        # HeyGen's link dies after days: have a worker fetch the file, after the answer. A voice has none.
        print(f"{job['callback_id']}: completed, {job['result'].get('video_url', 'no video')}", flush=True)
    elif event["type"] == "job.failed":
        # `for_user` may be shown to your user; `class` and `message` are for you.
        failure = job["failure"]
        print(f"{job['callback_id']}: failed ({failure['class']}), {failure['for_user']}", flush=True)
    else:  # A test event, or one that you have no use for.
        print(event["type"], flush=True)


@app.post("/api/webhooks/reelhook")
def hear():
    try:
        # The bytes as they came are what is signed: request.json and back would be others.
        event = webhook.verify(request.get_data(), dict(request.headers))
    except (WebhookVerificationError, ValueError):
        return "not signed by reelhook", 401
    event_id = request.headers["webhook-id"]
    if event_id not in taken:
        take(event)
        taken.add(event_id)
    return "", 204


if __name__ == "__main__":
    app.run(port=int(os.environ.get("PORT", "3000")))
