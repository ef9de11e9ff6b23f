// What every part of the benchmark uses: where things are, servers started and stopped, medians. Knows
// nothing of what is measured.
import { execFileSync, spawn } from "node:child_process";
import { closeSync, mkdtempSync, openSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";

export const binary = process.env.REELHOOK_BINARY;
export const postgres = process.env.REELHOOK_TEST_POSTGRES;
export const rounds = Number(process.env.ROUNDS ?? 3);
export const seconds = Number(process.env.SECONDS ?? 8);
export const secret = "bench-secret";
export const port = 18055;
export const scratch = mkdtempSync(join(tmpdir(), "reelhook-bench-"));

let servers = 0;
let databases = 0;
export function freshDatabase() {
  databases += 1;
  const name = `bench_${process.pid}_${databases}`;
  execFileSync("psql", [postgres, "-qc", `CREATE DATABASE ${name}`]);
  const url = new URL(postgres);
  url.pathname = `/${name}`;
  return url.toString();
}

export const reelhook = (database, heygen, more = []) =>
  start(
    binary,
    ["serve", "--listen", `127.0.0.1:${port}`, "--database", database, "--heygen-api-key", "bench",
      "--heygen-url", heygen, "--log", "info", ...more],
    "reelhook is ready",
    { HEYGEN_WEBHOOK_SECRET: secret },
  );

// Whoever ends the benchmark ends its servers, too.
const running = new Set();
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
  process.on(signal, () => {
    for (const child of running) child.kill("SIGTERM");
    process.exit(1);
  });
}

// Resolves when the line that says so is out. What a server says goes to a file, as a service's does:
// reading it here would take time from what is measured.
export async function start(command, args, ready, env = {}) {
  const path = process.env.PATH;
  servers += 1;
  const log = join(scratch, `${servers}.log`);
  const out = openSync(log, "w");
  const child = spawn(command, args, { env: { PATH: path, ...env }, stdio: ["ignore", out, out] });
  closeSync(out);
  running.add(child);
  child.on("exit", () => running.delete(child));
  const said = () => readFileSync(log, "utf8");
  while (!said().includes(ready)) {
    if (child.exitCode !== null) throw new Error(`${command} ended with ${child.exitCode}: ${said()}`);
    await setTimeout(5);
  }
  return { child, said };
}

export async function stop({ child }) {
  const gone = new Promise((resolve) => child.on("exit", resolve));
  child.kill("SIGTERM");
  await gone;
}

export const sorted = (all) => all.toSorted((a, b) => a - b);
export const median = (all) => sorted(all)[Math.floor(all.length / 2)];
