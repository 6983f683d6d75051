// node-postgres, used as its users do. Arguments: acme's URL, globex' URL. It is found through NODE_PATH, or where
// tests/run.sh installs it.
const path = require("path");
const assert = require("assert");
let pg;
try {
  pg = require("pg");
} catch {
  pg = require(path.join(__dirname, "../../target/test-tools/node_modules/pg"));
}

async function work(connectionString) {
  const client = new pg.Client({ connectionString });
  await client.connect();
  const own = (await client.query('select count(*)::int as n from "Segment" where name <> $1', ["none"])).rows[0].n;
  for (let number = 0; number < 5; number++) {
    const named = { name: "increment", text: "select $1::int + 1 as v", values: [number] };
    assert.strictEqual((await client.query(named)).rows[0].v, number + 1);
  }
  await client.query("begin");
  await client.query('insert into "Segment" (name) values ($1)', ["node-postgres"]);
  await client.query("rollback");
  await assert.rejects(client.query("select nonsense"), { code: "42703" });
  await client.query("begin isolation level repeatable read");
  await assert.rejects(client.query("select 1/0"), { code: "22012" });
  await client.query("commit");
  await client.end();
  return own;
}

async function main() {
  const [acme, globex] = process.argv.slice(2, 4);
  assert.notStrictEqual(await work(acme), await work(globex));
  const pool = new pg.Pool({ connectionString: acme, max: 10 });
  const results = await Promise.all([...Array(60).keys()].map((n) => pool.query("select $1::int as n", [n])));
  results.forEach((result, n) => assert.strictEqual(result.rows[0].n, n));
  await pool.end();
  console.log("all good");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
