// Hears how videos end. Verifies what it is sent, takes each event once, answers at once.
import { Webhook } from "standardwebhooks";

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

export async function POST(request) {
  const secret = process.env.WEBHOOK_SECRET;
  if (!secret) {
    // Told again later, when it is set.
    return new Response("WEBHOOK_SECRET is not set; `reelhook endpoint add` shows it once", { status: 500 });
  }
  // The text as it came is what is signed: request.json() and back would be another.
  const body = await request.text();
  let event;
  try {
    event = new Webhook(secret).verify(body, Object.fromEntries(request.headers));
  } catch {
    return new Response("not signed by reelhook", { status: 401 });
  }
  const id = request.headers.get("webhook-id");
  if (!taken.has(id)) {
    take(event);
    taken.add(id);
  }
  return new Response(null, { status: 204 });
}
