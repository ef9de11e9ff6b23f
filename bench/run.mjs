// Measures reelhook beside Express receivers as tutorials write them, in interleaved runs, and
// writes docs/performance.md. Started by scripts/bench; every server and the load are on loopback.
import { execFileSync, spawn } from "node:child_process";
import { cpus, totalmem } from "node:os";
import { closeSync, existsSync, fdatasyncSync, mkdtempSync, openSync, readFileSync, rmSync, statSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { wayOut } from "./out.mjs";
import { binary, freshDatabase, median, port, postgres, reelhook, rounds, scratch, seconds, secret, sorted, start, stop } from "./servers.mjs";

const warmup = 500;
const to = `http://127.0.0.1:${port}/webhooks/heygen`;

const express = (keep, extra = {}) => (dir) =>
  start("node", ["bench/express/server.mjs"], "ready", {
    KEEP: keep,
    PORT: String(port),
    DB_FILE: join(dir, "express.db"),
    HEYGEN_WEBHOOK_SECRET: secret,
    ...extra,
  });
const ours = (database) => (dir) => reelhook(database(dir), "http://127.0.0.1:9");

const receivers = [
  ["reelhook, SQLite", ours((dir) => join(dir, "bench.db"))],
  ["Express, keeps nothing", express("nothing")],
  ["Express, SQLite FULL", express("sqlite")],
];
if (postgres) {
  receivers.push(["reelhook, PostgreSQL", ours(freshDatabase)]);
  receivers.push(["Express, PostgreSQL", express("postgres", { DATABASE_URL: postgres })]);
}

async function load(args) {
  const base = ["simulate", "--to", to, "--secret", secret, "--unique", "--json", "--quiet",
    "--duration", `${seconds}s`, "--warmup", String(warmup)];
  const child = spawn(binary, [...base, ...args], { env: { PATH: process.env.PATH } });
  let out = "";
  child.stdout.on("data", (chunk) => (out += chunk));
  await new Promise((resolve) => child.on("exit", resolve));
  return JSON.parse(out);
}

// Runs `work` while HeyGen's probe is asked again and again. What came of it, and the slowest hundredth of
// the probes in ms.
async function probed(work) {
  const spans = [];
  let over = false;
  const probing = (async () => {
    while (!over) {
      const begun = performance.now();
      const answer = await fetch(to, { method: "OPTIONS" });
      await answer.arrayBuffer();
      if (answer.status !== 200) throw new Error(`a probe was answered ${answer.status}`);
      spans.push(performance.now() - begun);
      await delay(10);
    }
  })();
  const result = await work();
  over = true;
  await probing;
  spans.sort((a, b) => a - b);
  return [result, spans[Math.floor(spans.length * 0.99)]];
}

// Processor seconds a process has had, its threads included.
function used({ child }) {
  const fields = readFileSync(`/proc/${child.pid}/stat`, "utf8").split(") ")[1].split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

// How many receipts a server of ours has understood by now; nothing of another.
async function understood() {
  const metrics = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
  const counts = [...metrics.matchAll(/^reelhook_receipts_applied_total\{.*\} (\d+)$/gm)].map(([, n]) => Number(n));
  return counts.reduce((all, n) => all + n, 0);
}

async function measure(run, args) {
  const dir = mkdtempSync(join(scratch, "run-"));
  const server = await run(dir);
  try {
    const before = used(server);
    const [result, probe] = await probed(() => load(args));
    const done = (await understood()) / (result.sent + warmup);
    // The warm-up's are among them.
    const cpu = ((used(server) - before) * 1e6) / (result.sent + warmup);
    if (Object.keys(result.by_status).some((status) => status !== "200")) {
      throw new Error(`not every answer was 200: ${JSON.stringify(result)}`);
    }
    return { per_second: result.per_second, p50: result.latency_ms.p50, p99: result.latency_ms.p99, cpu, probe, done };
  } finally {
    await stop(server);
    rmSync(dir, { recursive: true, force: true });
  }
}

const middle = (runs) => ({
  per_second: median(runs.map((r) => r.per_second)),
  p50: median(runs.map((r) => r.p50)),
  p99: median(runs.map((r) => r.p99)),
  cpu: median(runs.map((r) => r.cpu)),
  probe: median(runs.map((r) => r.probe)),
  done: median(runs.map((r) => r.done)),
});

async function interleaved(args) {
  const runs = new Map(receivers.map(([name]) => [name, []]));
  for (let round = 0; round < rounds; round += 1) {
    for (const [name, run] of receivers) {
      const figures = await measure(run, args);
      console.error(`  ${name}: ${Math.round(figures.per_second)}/s, p99 ${figures.p99} ms`);
      runs.get(name).push(figures);
    }
  }
  return new Map([...runs].map(([name, all]) => [name, middle(all)]));
}

async function footprint() {
  const ready = [];
  const memory = [];
  for (let round = 0; round < 5; round += 1) {
    const dir = mkdtempSync(join(scratch, "idle-"));
    const server = await ours((d) => join(d, "bench.db"))(dir);
    ready.push(Number(/ready_ms=(\d+)/.exec(server.said())[1]));
    const status = readFileSync(`/proc/${server.child.pid}/status`, "utf8");
    memory.push(Number(/VmRSS:\s+(\d+) kB/.exec(status)[1]) / 1024);
    await stop(server);
  }
  return { ready: median(ready), memory: median(memory), binary: statSync(binary).size / 2 ** 20 };
}

// What a flush to the disk takes by itself. Every durable answer waits for one.
async function flushes() {
  const file = openSync(join(scratch, "flushes"), "w");
  const spans = [];
  while (spans.length < 500) {
    const begun = performance.now();
    writeSync(file, Buffer.alloc(4096));
    fdatasyncSync(file);
    spans.push(performance.now() - begun);
    await delay(4);
  }
  closeSync(file);
  const slowest = sorted(spans)[Math.floor(spans.length * 0.99)];
  return `fdatasync of 4 kB p50 ${ms(median(spans))} ms, p99 ${ms(slowest)} ms`;
}

const applied = () =>
  execFileSync("cargo", ["bench", "-q", "--bench", "apply"], { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] })
    .trim().split("\n").map((line) => JSON.parse(line));

const number = (n) => Math.round(n).toLocaleString("en");
const ms = (n) => n.toFixed(n < 10 ? 2 : 0);
const table = (runs) => [...runs].map(([name, f]) => `| ${name} | ${number(f.per_second)} | ${ms(f.p50)} | ${ms(f.p99)} | ${Math.round(f.cpu)} |`).join("\n");

async function intake() {
  console.error("64 connections, as fast as they go");
  const full = await interleaved(["--connections", "64"]);
  console.error("1,000 a second");
  const steady = await interleaved(["--rate", "1000", "--connections", "64"]);
  const ratio = (a, b) => (full.has(a) && full.has(b) ? (full.get(a).per_second / full.get(b).per_second).toFixed(1) : "-");
  const of = (runs, name) => runs.get(name) ?? {};
  const percent = (part) => `${Math.round(part * 100)} %`;
  const share = (name) => percent((of(full, name).per_second * of(full, name).cpu) / 1e6 / cpus().length);
  return [
    ["Intake, 64 connections", `\
| receiver | per second | p50 ms | p99 ms | server's processor µs each |
| --- | --- | --- | --- | --- |
${table(full)}

| ratio | figure | goal |
| --- | --- | --- |
| reelhook on SQLite to Express that keeps nothing | ${ratio("reelhook, SQLite", "Express, keeps nothing")} | 3 |
| reelhook on SQLite to Express with SQLite | ${ratio("reelhook, SQLite", "Express, SQLite FULL")} | 10 |
| reelhook on PostgreSQL to Express with PostgreSQL | ${ratio("reelhook, PostgreSQL", "Express, PostgreSQL")} | 4 |

What bounds it here is processor time: ${cpus().length} cores are shared by server, load and, where there is one, the
database server, whose time is not in the last column. reelhook's time has in it that receipts are applied while
more arrive: parsed, matched with their job, noted. That gives way to what arrives: ${percent(of(full, "reelhook, SQLite").done)} of the receipts were
applied on SQLite when the load ended and ${percent(of(full, "reelhook, PostgreSQL").done)} on PostgreSQL, the others afterwards. On SQLite
${share("reelhook, SQLite")} of the machine is the server's, on PostgreSQL ${share("reelhook, PostgreSQL")}.

HeyGen probes an address with OPTIONS and waits one second. Asked meanwhile, the slowest hundredth of probes is
answered in ${ms(full.get("reelhook, SQLite").probe)} ms on SQLite${full.has("reelhook, PostgreSQL") ? ` and in ${ms(full.get("reelhook, PostgreSQL").probe)} ms on PostgreSQL` : ""}; the goal is 50 ms.`],
    ["Intake at a steady 1,000 a second", `\
Latency counts from when a message was due, so a receiver that falls behind cannot hide it. The goal for the
slowest hundredth is 5 ms. It comes about while receipts are applied, which is many short bursts a second:
the processors are shared then by load, server and, with PostgreSQL, its processes. What a receiver that keeps
nothing takes is the machine's own share: ${ms(steady.get("Express, keeps nothing").p99)} ms here. When the load ended, ${percent(of(steady, "reelhook, SQLite").done)} of the receipts
were applied on SQLite, ${percent(of(steady, "reelhook, PostgreSQL").done)} on PostgreSQL.

| receiver | per second | p50 ms | p99 ms | server's processor µs each |
| --- | --- | --- | --- | --- |
${table(steady)}`],
  ];
}

async function apply() {
  console.error("receipts applied");
  const goals = { sqlite: "8,000", postgres: "4,000" };
  const runs = Array.from({ length: rounds }, applied);
  const row = (first, at) => {
    const all = runs.map((run) => run[at]);
    const [rate, processors] = [median(all.map((a) => a.per_second)), median(all.map((a) => a.processors))];
    return `| ${first.engine} | ${number(first.receipts)} | ${number(rate)} | ${processors.toFixed(2)} of ${cpus().length} | ${goals[first.engine]} |`;
  };
  return [["Receipts applied", `\
A stored webhook is understood, its job moved and an event written: \`cargo bench --bench apply\`. Webhooks come in
the order of their jobs but for up to 1,024 places, in which they are mixed. On SQLite one
thread writes: what bounds it is that one's pace, with a processor for most of the time and waiting for the disk for
the rest, so more processors would not help. With PostgreSQL most of the time goes to the database server.

| store | receipts | per second | processors in use by reelhook | goal |
| --- | --- | --- | --- | --- |
${runs[0].map(row).join("\n")}`]];
}

async function rest() {
  console.error("idle");
  const idle = await footprint();
  return [["At rest", `\
| figure | measured | goal |
| --- | --- | --- |
| resident memory, idle | ${idle.memory.toFixed(1)} MiB | under 40 MB |
| start to ready | ${idle.ready} ms | under 300 ms |
| release binary | ${idle.binary.toFixed(1)} MiB | under 25 MB |`]];
}

const parts = { rest, intake, apply, out: wayOut };
const wanted = process.env.PARTS ? process.env.PARTS.split(",") : Object.keys(parts);
const strange = wanted.filter((name) => !(name in parts));
if (strange.length > 0) {
  console.error(`bench: no part is called ${strange.join(", ")}; PARTS may name ${Object.keys(parts).join(", ")}`);
  process.exit(2);
}

// Each section says itself when and on what it was measured, so those of parts that are not run stay as
// they are.
const headings = ["Intake, 64 connections", "Intake at a steady 1,000 a second", "Receipts applied",
  "From HeyGen's webhook to the application", "Deliveries a second", "One endpoint that hangs", "At rest"];
const file = "docs/performance.md";
const old = existsSync(file) ? readFileSync(file, "utf8").split(/^## /m).slice(1) : [];
const sections = new Map(old.map((text) => [text.slice(0, text.indexOf("\n")), text.slice(text.indexOf("\n")).trim()]));
const git = (...args) => execFileSync("git", args, { encoding: "utf8" }).trim();
// The page itself may differ: the part before wrote it.
const changed = git("status", "--porcelain", "--", ".", `:!${file}`) !== "";
const commit = `${git("rev-parse", "--short=7", "HEAD")}${changed ? "-dirty" : ""}`;
const conditions = async () => `*${rounds} interleaved runs of ${seconds} s, medians; commit ${commit}, ${new Date().toISOString().slice(0, 10)}, ${cpus().length} cores \
(${cpus()[0].model.trim()}), ${Math.round(totalmem() / 2 ** 30)} GiB; ${await flushes()}.*`;
for (const [name, part] of Object.entries(parts)) {
  if (!wanted.includes(name)) continue;
  const measured = await part();
  const under = await conditions();
  for (const [heading, text] of measured) sections.set(heading, `${under}\n\n${text}`);
}
rmSync(scratch, { recursive: true, force: true });

writeFileSync(file, `# Performance

Written by \`scripts/bench\`; do not edit. Processors are shared by server, database, load and receivers. Every
reelhook answer comes after its commit is on disk (SQLite \`synchronous=FULL\`; PostgreSQL with its own durability
settings); receipts are applied while more arrive. Every body is different and signed. Absolute figures belong
to that machine; the ratios are what to hold on to.

${headings.filter((heading) => sections.has(heading)).map((heading) => `## ${heading}\n\n${sections.get(heading)}\n`).join("\n")}`);
console.error(`${file} is written`);
