// The way out: from HeyGen's webhook to the application that is told. Jobs are real ones, under way at the
// sandbox; the webhooks of their ends are sent here, each when it is due, whatever came of the others.
import { createHmac } from "node:crypto";
import { fork } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { Agent, request } from "node:http";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { binary, freshDatabase, median, port, postgres, reelhook, rounds, scratch, seconds, secret, sorted, start, stop } from "./servers.mjs";

const engines = [["SQLite", (dir) => join(dir, "bench.db")], ...(postgres ? [["PostgreSQL", freshDatabase]] : [])];
const sandboxPort = 18056;
const sandbox = `http://127.0.0.1:${sandboxPort}`;
const base = `http://127.0.0.1:${port}`;
const agent = new Agent({ keepAlive: true, maxSockets: 64 });
// Ends told first and not counted.
const warmup = 50;
// Events a second for many endpoints; each is a delivery to every one of them.
const many = { endpoints: 100, rate: 5 };
const backlog = 4000;

const now = () => Number(process.hrtime.bigint()) / 1e6;
const share = (all, part) => sorted(all)[Math.min(all.length - 1, Math.floor(all.length * part))];

function call(method, url, body, headers = {}) {
  return new Promise((resolve, reject) => {
    const sent = request(url, { method, agent, headers: { "content-type": "application/json", ...headers } }, (answer) => {
      let text = "";
      answer.on("data", (chunk) => (text += chunk));
      answer.on("end", () => {
        if (answer.statusCode < 300) return resolve(text);
        reject(new Error(`${method} ${url}: ${answer.statusCode} ${text}`));
      });
    });
    sent.on("error", reject);
    sent.end(body);
  });
}
const api = async (method, path, body) => JSON.parse(await call(method, base + path, JSON.stringify(body)));

// So many at once, each from its number.
async function each(count, atOnce, make) {
  const made = new Array(count);
  let next = 0;
  const one = async () => {
    for (let nth = next++; nth < count; nth = next++) made[nth] = await make(nth);
  };
  await Promise.all(Array.from({ length: atOnce }, one));
  return made;
}

// What one run stands on, and its end.
async function ground(database) {
  const dir = mkdtempSync(join(scratch, "out-"));
  const upstream = await start(binary,
    ["sandbox", "--listen", `127.0.0.1:${sandboxPort}`, "--concurrency", "100000", "--balance", "1000000", "--render", "3600000..3600000"],
    "HeyGen sandbox at");
  const server = await reelhook(database(dir), sandbox, ["--slots", "10000", "--allow-private", "127.0.0.1"]);
  const child = fork(join(import.meta.dirname, "receiver.mjs"));
  const heard = [];
  let news = () => {};
  const at = await new Promise((resolve) =>
    child.on("message", (said) => {
      if (said.port) return resolve(said.port);
      heard.push(...said.heard);
      news();
    }));
  const endpoint = (path, events) => api("POST", "/api/endpoints", { url: `http://127.0.0.1:${at}${path}`, events });
  // An application that never hears all of it must not be waited for in vain.
  const hears = (count) => new Promise((resolve, reject) => {
    let before = -1;
    const watch = setInterval(() => {
      if (heard.length === before) reject(new Error(`${heard.length} of ${count} were told, and no more come`));
      before = heard.length;
    }, 30_000);
    news = () => {
      if (heard.length < count) return;
      clearInterval(watch);
      resolve();
    };
    news();
  });
  const end = async () => {
    child.disconnect();
    await stop(server);
    await stop(upstream);
    rmSync(dir, { recursive: true, force: true });
  };
  return { endpoint, heard, hears, end };
}

// Jobs that HeyGen works on and reelhook knows to be accepted, with HeyGen's ids.
async function underWay(count) {
  await each(count, 16, () => api("POST", "/api/jobs", { kind: "video_agent", request: { prompt: "p" } }));
  const open = /^reelhook_jobs_open\{state="processing"\} (\d+)/m;
  while (Number(open.exec(await call("GET", `${base}/metrics`))?.[1] ?? 0) < count) await setTimeout(50);
  const jobs = [];
  for (let after = 0, more = true; more; ) {
    const page = JSON.parse(await call("GET", `${sandbox}/sandbox/ledger?after=${after}`));
    jobs.push(...page.data.filter((entry) => entry.what === "accepted").map((entry) => [entry.callback_id, entry.ids[0]]));
    after = page.data.at(-1)?.seq ?? after;
    more = page.has_more;
  }
  return jobs;
}

// Tells of the ends of jobs at a steady rate. When each was due.
async function tellEnds(jobs, rate) {
  const hooks = jobs.map(([job, upstream]) => {
    const data = { session_id: upstream, callback_id: job, video_url: "https://files.example/v.mp4" };
    const body = JSON.stringify({ event_type: "video_agent.success", event_data: data });
    return [body, createHmac("sha256", secret).update(body).digest("hex")];
  });
  const due = new Map();
  const begun = now() + 100;
  const answers = [];
  for (let nth = 0; nth < jobs.length; ) {
    const at = begun + (nth * 1000) / rate;
    if (now() < at) {
      await setTimeout(1);
      continue;
    }
    due.set(jobs[nth][0], at);
    const [body, signature] = hooks[nth];
    answers.push(call("POST", `${base}/webhooks/heygen`, body, { signature }));
    nth += 1;
  }
  await Promise.all(answers);
  return due;
}

// How long after its webhook was due each end was told, to `endpoints` that answer and one that may not.
async function lags(database, rate, endpoints, hangs) {
  const g = await ground(database);
  try {
    await each(endpoints - hangs, 4, (nth) => g.endpoint(`/${nth}`, ["job.completed"]));
    if (hangs) await g.endpoint("/hang", ["job.completed"]);
    const first = Math.ceil(warmup / (endpoints - hangs));
    const jobs = await underWay(first + Math.round(rate * seconds));
    const due = await tellEnds(jobs, rate);
    await g.hears(jobs.length * (endpoints - hangs));
    const counted = new Set(jobs.slice(first).map(([job]) => job));
    const all = g.heard.filter(([, job]) => counted.has(job)).map(([, job, at]) => at - due.get(job));
    return { p50: share(all, 0.5), p99: share(all, 0.99), max: share(all, 1) };
  } finally {
    await g.end();
  }
}

// How fast a backlog is told that a group of held jobs makes at once: deliveries a second.
async function throughput(database, endpoints) {
  const g = await ground(database);
  try {
    await each(endpoints, 4, (nth) => g.endpoint(`/${nth}`, ["job.held"]));
    const rows = Array.from({ length: backlog / endpoints }, (_, nth) => ({ nth: `${nth}` }));
    const template = { kind: "video_agent", request: { prompt: "{{nth}}" }, hold: true };
    await api("POST", "/api/groups", { template, rows });
    await g.hears(backlog);
    const at = sorted(g.heard.map(([, , at]) => at));
    return ((at.length - 1) * 1000) / (at.at(-1) - at[0]);
  } finally {
    await g.end();
  }
}

// Each variant in turn, so often; by name what each run gave.
async function interleaved(variants) {
  const runs = new Map(variants.map(([name]) => [name, []]));
  for (let round = 0; round < rounds; round += 1) {
    for (const [name, run] of variants) {
      const figures = await run();
      console.error(`  ${name}: ${JSON.stringify(figures, (_, n) => (typeof n === "number" ? Math.round(n * 10) / 10 : n))}`);
      runs.get(name).push(figures);
    }
  }
  return runs;
}

const ms = (n) => n.toFixed(n < 10 ? 2 : 0);
const of = (runs, what) => median(runs.map((run) => run[what]));

// Headings and texts of the page.
export async function wayOut() {
  console.error("told, 50 and 200 a second");
  const rates = [50, 200];
  const told = await interleaved(engines.flatMap(([name, database]) =>
    rates.map((rate) => [`${name} | ${rate}`, () => lags(database, rate, 1, 0)])));
  console.error(`a backlog of ${backlog}`);
  const sent = await interleaved(engines.flatMap(([name, database]) =>
    [1, 20].map((endpoints) => [`${name} | ${endpoints}`, () => throughput(database, endpoints)])));
  console.error(`one of ${many.endpoints} hangs`);
  const beside = await interleaved(engines.flatMap(([name, database]) =>
    [0, 1].map((hangs) => [`${name} | ${hangs}`, () => lags(database, many.rate, many.endpoints, hangs)])));
  agent.destroy();
  const rows = (runs, row) => [...runs].map(([name, all]) => `| ${name} | ${row(all)} |`).join("\n");
  const ratio = (name) => (of(beside.get(`${name} | 1`), "p99") / of(beside.get(`${name} | 0`), "p99")).toFixed(2);
  return [
    ["From HeyGen's webhook to the application", `\
A job is under way, HeyGen's webhook says that it is done, and an endpoint on loopback has read the event.
Latency counts from when the webhook was due to be sent, at a steady rate, and has in it that the webhook is
committed, applied, published and signed. The goal for the slowest hundredth is 250 ms.

| store | ends a second | p50 ms | p99 ms | slowest ms |
| --- | --- | --- | --- | --- |
${rows(told, (all) => ["p50", "p99", "max"].map((what) => ms(of(all, what))).join(" | "))}`],
    ["Deliveries a second", `\
${backlog.toLocaleString("en")} deliveries that become due at once, to endpoints at one receiver on loopback, from the first that is
read to the last. An endpoint is sent eight at a time.

| store | endpoints | deliveries a second |
| --- | --- | --- |
${rows(sent, (all) => Math.round(median(all)).toLocaleString("en"))}`],
    ["One endpoint that hangs", `\
${many.endpoints} endpoints hear of ${many.rate} ends a second, which is ${many.endpoints * many.rate} deliveries a second; then one of them reads and never
answers. What the others see, and the goal for the ratio of their slowest hundredths: at most 1.2.

| store | that hang | p50 ms | p99 ms | slowest ms |
| --- | --- | --- | --- | --- |
${rows(beside, (all) => ["p50", "p99", "max"].map((what) => ms(of(all, what))).join(" | "))}

${engines.map(([name]) => `Ratio on ${name}: ${ratio(name)}.`).join(" ")}`],
  ];
}
