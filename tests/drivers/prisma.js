// Prisma, used as its users do. Arguments: acme's URL, globex' URL, the system key's URL. The client is generated first;
// neither it nor its driver adapter needs an engine. `prisma migrate` does, and that isn't in the npm registry: the
// migration is the SQL that it would run, in one simple query.
const assert = require("assert");
const fs = require("fs");
const os = require("os");
const path = require("path");
const { execFileSync } = require("child_process");

const modules = process.env.NODE_PATH || path.join(__dirname, "../../target/test-tools/node_modules");
const need = (name) => require(require.resolve(name, { paths: [path.dirname(modules)] }));
const { PrismaPg } = need("@prisma/adapter-pg");
const pg = need("pg");

function generate(place) {
  fs.copyFileSync(path.join(__dirname, "prisma.schema"), path.join(place, "schema.prisma"));
  fs.symlinkSync(modules, path.join(place, "node_modules"));
  execFileSync(process.execPath, [path.join(modules, "prisma/build/index.js"), "generate", "--schema", "schema.prisma"], {
    cwd: place,
    // Generating asks for the engine's path, but doesn't run it.
    env: { ...process.env, PRISMA_SCHEMA_ENGINE_BINARY: "/bin/true", PRISMA_HIDE_UPDATE_MESSAGE: "1", CHECKPOINT_DISABLE: "1" },
  });
  return require(path.join(place, "client"));
}

async function migrate(url) {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  await client.query("select pg_advisory_lock(72707369)");
  await client.query(`-- AlterTable
ALTER TABLE "Segment" ADD COLUMN "note" TEXT;
-- CreateIndex
CREATE INDEX "Segment_note_idx" ON "Segment"("workspaceId", "note");`);
  await client.query("select pg_advisory_unlock(72707369)");
  await client.end();
}

async function crud(PrismaClient, url) {
  const prisma = new PrismaClient({ adapter: new PrismaPg({ connectionString: url, max: 4 }) });
  const had = await prisma.segment.count();
  const made = await prisma.segment.create({ data: { name: "prisma 0", definition: { a: [1] }, note: "new" } });
  assert.deepStrictEqual(made.definition, { a: [1] });
  const many = [...Array(20).keys()].map((n) => ({ name: `prisma ${n + 1}`, note: "many" }));
  assert.strictEqual((await prisma.segment.createMany({ data: many })).count, 20);
  await assert.rejects(prisma.segment.create({ data: { name: "prisma 1" } }), { code: "P2002" });
  await prisma.segment.upsert({
    where: { workspaceId_name: { workspaceId: made.workspaceId, name: "prisma 1" } },
    create: { name: "prisma 1" },
    update: { note: "changed" },
  });
  await assert.rejects(
    prisma.$transaction(async (within) => {
      await within.segment.deleteMany({ where: { note: "many" } });
      assert.strictEqual(await within.segment.count(), had + 2);
      throw new Error("back");
    }),
    /back/,
  );
  assert.strictEqual(await prisma.segment.count(), had + 21);
  const [count, page] = await prisma.$transaction(
    [prisma.segment.count(), prisma.segment.findMany({ orderBy: { name: "asc" }, take: 5, skip: 2 })],
    { isolationLevel: "Serializable" },
  );
  assert.strictEqual(count, had + 21);
  assert.strictEqual(page.length, 5);
  const journey = await prisma.journey.create({
    data: { name: "prisma", steps: { create: [{ position: 1, kind: "a" }, { position: 2, kind: "b" }] } },
    include: { steps: true },
  });
  assert.strictEqual(journey.steps.length, 2);
  await prisma.journey.delete({ where: { id: journey.id } });
  assert.deepStrictEqual(await prisma.$queryRaw`select ${7}::int as n`, [{ n: 7 }]);
  const together = await Promise.all([...Array(40).keys()].map((n) => prisma.$queryRaw`select ${n}::int as n`));
  together.forEach((rows, n) => assert.strictEqual(rows[0].n, n));
  assert.strictEqual((await prisma.segment.deleteMany({ where: { name: { startsWith: "prisma " } } })).count, 21);
  await prisma.$disconnect();
  return had;
}

async function main() {
  const [acme, globex, system] = process.argv.slice(2, 5);
  const place = fs.mkdtempSync(path.join(os.tmpdir(), "prisma-"));
  try {
    const { PrismaClient } = generate(place);
    await migrate(system);
    assert.notStrictEqual(await crud(PrismaClient, acme), await crud(PrismaClient, globex));
  } finally {
    fs.rmSync(place, { recursive: true });
  }
  console.log("all good");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
