// Writes docs/reliability.md from what the tests printed: `promise {json}` lines, and the state space's.
// Started by scripts/reliability.
import { execFileSync } from "node:child_process";
import { cpus, totalmem } from "node:os";
import { readFileSync, writeFileSync } from "node:fs";

const promises = {
  "B01-B03 at random": "Killed hard under load, at random: no job, no webhook lost, none paid twice",
  B01: "A submit you saw accepted is never forgotten: killed between any two steps of it",
  "B02 kills": "Never paid twice: the same kills, with answers lost and 504 after accept",
  "B02 without a key": "Of kinds whose calls HeyGen is not known to know again, none is sent twice: confirmed by what HeyGen tells, or `unknown`, listed, in `doctor`, with what a person can do, until the deadline says what may have been charged; killed between any two steps",
  "B02 without a key, at random": "The same, killed at random",
  B03: "An acknowledged webhook is never lost: killed around the commit and the answer",
  "told, killed at random": "Every end is told to the application: killed at random",
  "told, killed while telling": "Every end is told, and no two different ones: killed before and after the receiver was called",
  B05: "Each outcome acts once: webhooks doubled up to fifty times, across restarts",
  B06: "Order does not matter: success, failure, caption, progress in every order",
  B07: "Forged webhooks never act, and all are counted: altered, unsigned, cut, signed with a guess, with another endpoint's secret, with a removed one",
  B08: "A missing webhook is healed by polls",
  "B08 window": "All webhooks of a window are lost, and healed by polls: those before and after it come; the window is as long as it takes to lose half of a hundred, not an hour",
  "B08 disabled": "HeyGen has disabled our endpoint: polls find what it would have told, or the event log alone on the next start; `doctor` tells, and webhooks come again after what it advises",
  "B08 together": "Asking for a hundred open videos of which nothing is told costs little",
  B09: "A gap is healed from HeyGen's event log alone: no webhook comes, and no poll is due for an hour",
  B10: "Trouble of HeyGen's is ridden out: 429 with and without Retry-After, 500, 502 in HTML, 503, 504 after it was taken, an error in a 200, resets before and after, half an answer; calls that hang for two minutes before and after they were taken, or amid the answer. Then it is down for all: one look per 10 s, and all jobs end within 60 s of its return",
  "B10 name": "HeyGen's name cannot be looked up: nothing is sent, jobs wait and say why, at most one call in 10 s, and all end within 60 s of its return",
  "B10 TLS": "What answers at HeyGen's address speaks no TLS: the same, until the server is started with an address that is right",
  B11: "A bad receiver hurts no other: one answers after 29 s, one never, one a byte a second, beside 97 that are well",
  B12: "Receivers are treated as they ask: 410, Retry-After in seconds, as a date, absurd; redirects inside; a body of 1 GiB; 2xx after 16 s",
  B13: "A poisonous message harms nobody beside it",
  "B13 given up": "A delivery that is never taken, by who fails or never answers, is one dead letter after the tries its endpoint was given, and nobody else waits for it",
  "B13 beside": "Others go on as fast beside poison at the door and a receiver that fails",
  B14: "Dead letters are replayed safely: pressed twice, killed, stopped and begun again, beside live traffic",
  B16: "A full disk is survived, one with no room for a file, too: refused in so many words, and on again when there is room",
  "B16 refused writes": "Nothing can be written, amid work, for the file system turned read-only or a quota is used up: refused in so many words, still read, and on again by itself",
  B17: "Clocks may lie: wrong from the start, on two nodes by ten minutes, and set again and again by up to six hours",
  "B17 days": "Clocks may lie: set again and again by up to two days. Here, in 2038 and in 2106 no answer to a submit is lost: when a day seems to have passed it is not sent again, and a person decides",
  "B17 2038": "Clocks may lie: set again and again to before and after the moment in 2038 at which 32 bits of seconds with a sign are full",
  "B17 2106": "The same in 2106, when 32 bits without a sign are full",
  "B17 simulated": "Clocks may lie: jumps ahead of an hour and a day, starts an hour behind or ahead, in the simulation",
  B18: "PostgreSQL restarts, in order and hard, drops connections, and is read only for a while, under three nodes",
  "B18 standby": "PostgreSQL is killed under load and its synchronous standby promoted; two of three nodes follow an address that is switched, one knows both",
  "B18 network": "The way to PostgreSQL is long (0.2 s a round trip; in the short form 0.02 s), loses packets (one in twenty, as TCP shows it: late), stands still and is cut, under three nodes",
  B19: "Somebody else's transaction that never ends does not choke three nodes",
  B20: "Nodes may die: one of three killed in turn",
  B21: "Deploys lose nothing: SIGTERM under load",
  B23: "A live stream has no holes: cut at every few events, over nodes and a kill, and read by as many as there may be",
  "B25 inbound": "Changing HeyGen's webhook secret loses nothing",
  "B25 outbound": "Changing a signing secret loses nothing: who knows only the new and who knows only the old can both verify",
  B26: "`listen` loses nothing: stood still for a moment, as in a sleep, left without a word, cut from the server, from the receiver, and killed",
  B27: "Nothing inside is reached from an address somebody chose: URLs of endpoints and jobs, redirects, names, names that change; straight and through a proxy",
  B33: "Bodies that change shape never end a job on a guess",
  B34: "One idempotency key has one effect, a hundred at once, over nodes and restarts",
  B35: "The SQLite file is never locked or broken: hundreds of writers, beside them backups by another program and commands that read, a second server, hard kills",
};

const said = readFileSync(process.argv[2], "utf8");
// A line may follow on what the test runner wrote before it.
const rows = [...said.matchAll(/promise (\{.*\})$/gm)].map((m) => JSON.parse(m[1]));
const order = Object.keys(promises);
rows.sort((a, b) => order.indexOf(a.row) - order.indexOf(b.row) || b.engine.localeCompare(a.engine));
const list = (counts) => Object.entries(counts).map(([name, n]) => `${name} ${n}`).join(", ") || "-";
// Claimed only where it was done.
if (rows.some((r) => r.row === "B20" && r.figures.stale_finishes_tried > 0)) promises.B20 += "; one stands still past its lease";
const table = rows.map((r) =>
  `| ${r.row} | ${promises[r.row] ?? ""} | ${r.engine} | ${r.n} | ${r.seed} | ${r.kept ? "" : "**broken:** "}${list(r.zero)} | ${list(r.figures)} |`);
const missing = order.filter((row) => !rows.some((r) => r.row === row));
const others = [...said.matchAll(/(sim: \d+ seeds|space: depth) .*$/gm)].map((m) => `- ${m[0]}`);
const ask = (command, ...args) => execFileSync(command, args, { encoding: "utf8" }).trim();
const server = (/postgres \((PostgreSQL\) [\d.]+)/.exec(said)?.[1] ?? "PostgreSQL").replace(")", "");
const disk = ask("df", "--output=fstype", ".").split("\n").pop();

writeFileSync("docs/reliability.md", `# Reliability

Written by \`scripts/reliability\`; do not edit. Commit ${ask("git", "rev-parse", "--short", "HEAD")}, ${new Date().toISOString().slice(0, 10)}, ${cpus().length} cores
(${cpus()[0].model.trim()}), ${Math.round(totalmem() / 2 ** 30)} GiB, ${disk}. SQLite with WAL and \`synchronous=FULL\`; ${server} without
\`fsync\`, for a killed process is not a cut of power; with it in B18, which kills PostgreSQL itself.

Each row breaks something on purpose and compares, after it, what reelhook says with what the sandbox and the
callers wrote down outside of it. N is how often. What must be zero is in one column; anything else there fails
the command. The process under test is the release binary with fail points built in. A figure with \`goal\` in its name
is not enforced: at these counts and beside everything else on the machine it is noisy. All of it again:

    ${["KILLS", "INJECTIONS", "SIM_SEEDS", "SIM_POSTGRES_SEEDS", "SEED"].map((name) => `${name}=${process.env[name]}`).join(" ")} scripts/reliability

A row again, by the beginning of its name (those at random are \`survives_hard_kills\`): \`INJECTIONS=20 SEED=1 scripts/kill b05\`.

| row | promise and fault | store | N | seed | must be zero | figures |
| --- | --- | --- | --- | --- | --- | --- |
${table.join("\n")}
${missing.length ? `\nNot run here: ${missing.join(", ")}.\n` : ""}
Every row that compares jobs compares that each end was published once, too; that it also reached an application,
those do that say \`lost_notifications\`.

Not tried by any row: a pooler, which is refused or lends whole sessions (B18); certificates that are not to be
trusted (B10); rolling upgrades, as nothing is released yet (B21); eight hours asleep or an hour away by the clock
(B08, B23, B26); a true webhook played again after a year, which is known for as long as its receipt is kept (B07); an
idempotency key that has expired (B34), which \`tests/api\` has; a transaction held for longer than the load beside it
takes (B19); payloads that panic a handler, as none is known (B13); of the kinds without an idempotency key all are in
the load that is killed, of the others four, the rest in \`tests/api/kinds.rs\`. B01 and B03 divide their number among
all points.

Inside one process, on a clock that is set by the test:

${others.join("\n")}
`);
console.error("docs/reliability.md is written");
