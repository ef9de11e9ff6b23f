// A webhook receiver as tutorials write it: Express, raw body, HMAC in hex, compare, answer.
// KEEP=nothing answers and forgets; sqlite inserts with synchronous=FULL; postgres inserts. Used by
// scripts/bench only.
import crypto from "node:crypto";
import express from "express";

const secret = process.env.HEYGEN_WEBHOOK_SECRET;
const insert = await store(process.env.KEEP);

async function store(kind) {
  if (kind === "sqlite") {
    const { default: Database } = await import("better-sqlite3");
    const db = new Database(process.env.DB_FILE);
    db.pragma("journal_mode = WAL");
    db.pragma("synchronous = FULL");
    db.exec("CREATE TABLE webhook (id INTEGER PRIMARY KEY, body BLOB NOT NULL, at INTEGER NOT NULL)");
    const statement = db.prepare("INSERT INTO webhook (body, at) VALUES (?, ?)");
    return async (body) => statement.run(body, Date.now());
  }
  if (kind === "postgres") {
    const { default: pg } = await import("pg");
    const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 10 });
    await pool.query("DROP TABLE IF EXISTS webhook");
    await pool.query("CREATE TABLE webhook (id BIGSERIAL PRIMARY KEY, body BYTEA NOT NULL, at BIGINT NOT NULL)");
    return (body) => pool.query("INSERT INTO webhook (body, at) VALUES ($1, $2)", [body, Date.now()]);
  }
  return async () => {};
}

const app = express();
app.post("/webhooks/heygen", express.raw({ type: "*/*", limit: "1mb" }), async (req, res) => {
  const expected = crypto.createHmac("sha256", secret).update(req.body).digest();
  const given = Buffer.from(req.headers["signature"] ?? "", "hex");
  if (given.length !== 32 || !crypto.timingSafeEqual(given, expected)) {
    return res.status(401).send("Invalid signature");
  }
  JSON.parse(req.body);
  await insert(req.body);
  res.status(200).send("OK");
});
app.listen(Number(process.env.PORT), "127.0.0.1", () => console.log("ready"));
