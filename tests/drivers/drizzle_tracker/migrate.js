// Applies the migrations beside it. Arguments: which of them, by how many.
const fs = require("fs");
const os = require("os");
const path = require("path");
const { Pool } = require("pg");
const { drizzle } = require("drizzle-orm/node-postgres");
const { migrate } = require("drizzle-orm/node-postgres/migrator");

async function main() {
  // An earlier state of the application has fewer of them.
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "drizzle-"));
  fs.cpSync(path.join(__dirname, "migrations"), folder, { recursive: true });
  const journal = path.join(folder, "meta/_journal.json");
  const known = JSON.parse(fs.readFileSync(journal));
  known.entries = known.entries.slice(0, Number(process.argv[2]));
  fs.writeFileSync(journal, JSON.stringify(known));
  const pool = new Pool({ connectionString: process.env.DATABASE_URL });
  await migrate(drizzle(pool), { migrationsFolder: folder });
  await pool.end();
  fs.rmSync(folder, { recursive: true });
  console.log("all good");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
