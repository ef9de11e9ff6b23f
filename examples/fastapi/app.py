"""Hears how videos end. Verifies what it is sent, takes each event once, answers at once."""

import os
import sys

import uvicorn
from fastapi import FastAPI, HTTPException, Request
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

secret = os.environ.get("WEBHOOK_SECRET")
if not secret:
    sys.exit("WEBHOOK_SECRET is not set; `reelhook endpoint add` shows it once")
webhook = Webhook(secret)
app = FastAPI()

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


@app.post("/api/webhooks/reelhook", status_code=204)
async def hear(request: Request):
    # The bytes as they came are what is signed: a parsed body and back would be others.
    body = await request.body()
    try:
        event = webhook.verify(body, dict(request.headers))
    except (WebhookVerificationError, ValueError):
        raise HTTPException(401, "not signed by reelhook") from None
    event_id = request.headers["webhook-id"]
    if event_id not in taken:
        take(event)
        taken.add(event_id)


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "3000")))
