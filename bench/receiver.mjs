// The application of the benchmark: takes what it is sent and notes when, for whom and of which job. Tells
// the process that forked it where it listens, and then what it heard. What is sent to /hang is read
// and never answered. Not an HTTP server: one would cost more than what is measured.
import { createServer } from "node:net";

const OK = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
let heard = [];

const server = createServer((socket) => {
  let read = "";
  socket.setNoDelay(true);
  socket.setEncoding("latin1");
  socket.on("error", () => {});
  socket.on("data", (text) => {
    read += text;
    for (;;) {
      const head = read.indexOf("\r\n\r\n");
      if (head < 0) return;
      const end = head + 4 + Number(/\r\ncontent-length: (\d+)/i.exec(read)?.[1] ?? 0);
      if (read.length < end) return;
      const path = read.slice(read.indexOf(" ") + 1, read.indexOf(" HTTP/"));
      const job = /\r\nreelhook-job: (\S+)/i.exec(read.slice(0, head))?.[1];
      read = read.slice(end);
      if (path === "/hang") continue;
      heard.push([path, job, Number(process.hrtime.bigint()) / 1e6]);
      socket.write(OK);
    }
  });
});
server.listen(0, "127.0.0.1", () => process.send({ port: server.address().port }));
setInterval(() => {
  if (heard.length > 0) process.send({ heard });
  heard = [];
}, 20);
process.on("disconnect", () => process.exit());
