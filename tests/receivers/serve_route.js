// Serves the route of examples/nextjs by its own function, with a Request as Next.js makes it.
import { createServer } from "node:http";
import { POST } from "./route.js";

const port = process.env.PORT;
const server = createServer(async (incoming, outgoing) => {
  const chunks = [];
  for await (const chunk of incoming) chunks.push(chunk);
  const url = `http://${incoming.headers.host}${incoming.url}`;
  const { method, headers } = incoming;
  const response = await POST(new Request(url, { method, headers, body: Buffer.concat(chunks) }));
  outgoing.writeHead(response.status, Object.fromEntries(response.headers));
  outgoing.end(Buffer.from(await response.arrayBuffer()));
});
server.listen(port, "127.0.0.1", () => {
  console.log(`listening on http://127.0.0.1:${port}/api/webhooks/reelhook`);
});
