// Hears how videos end. Verifies what it is sent, takes each event once, answers at once.
import express from "express";
import { Webhook } from "standardwebhooks";

const { WEBHOOK_SECRET, PORT = "3000" } = process.env;
if (!WEBHOOK_SECRET) {
  console.error("WEBHOOK_SECRET is not set; `reelhook endpoint add` shows it once");
  process.exit(1);
}
const webhook = new Webhook(WEBHOOK_SECRET);

// In your application: a table with a unique column, written in the transaction that does the work.
const taken = new Set();

function take({ type, data: job }) {
  switch (type) {
    case "job.completed":
      // HeyGen's link dies after days: have a worker fetch the file, after the answer. A voice has none.
      console.log(`${job.callback_id}: completed, ${job.result.video_url ?? "no video"}`);
      break;
    case "job.failed":
      // `for_user` may be shown to your user; `class` and `message` are for you.
      console.log(`${job.callback_id}: failed (${job.failure.class}), ${job.failure.for_user}`);
      break;
    default: // A test event, or one that you have no use for.
      console.log(type);
  }
}

// The bytes as they came are what is signed, so no JSON parser may stand before this.
const raw = express.raw({ type: () => true, limit: "2mb" });

const app = express();
app.post("/api/webhooks/reelhook", raw, (request, response) => {
  let event;
  try {
    event = webhook.verify(request.body, request.headers);
  } catch {
    return response.status(401).send("not signed by reelhook");
  }
  const id = request.get("webhook-id");
  if (!taken.has(id)) {
    take(event);
    taken.add(id);
  }
  response.sendStatus(204);
});

app.listen(PORT, "127.0.0.1", () => {
  console.log(`listening on http://127.0.0.1:${PORT}/api/webhooks/reelhook`);
});
