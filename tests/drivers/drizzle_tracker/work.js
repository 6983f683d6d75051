// What an application does in a day, with room for ten tasks. It knows nothing of pgcordon: only DATABASE_URL says where its
// database is.
const assert = require("assert");
const { Pool } = require("pg");
const { drizzle } = require("drizzle-orm/node-postgres");
const { and, asc, count, eq, inArray, sql } = require("drizzle-orm");
const schema = require("./schema");

const { project, task } = schema;

// Runs a write that must be refused for its quota, and returns the refusal's details.
async function refused(write) {
  const error = await write().then(
    () => assert.fail("a write beyond the quota went through"),
    (error) => error.cause ?? error,
  );
  assert.strictEqual(error.code, "53400", error);
  assert.match(error.message, /^pgcordon: quota exceeded/);
  return JSON.parse(error.detail);
}

async function main() {
  const pool = new Pool({ connectionString: process.env.DATABASE_URL, max: 4 });
  const db = drizzle(pool, { schema });
  const total = async () => (await db.select({ n: count() }).from(task))[0].n;
  assert.strictEqual(await total(), 0);
  const [{ id: projectId }] = await db.insert(project).values({ name: "first", settings: { color: "red" } }).returning();
  const tasks = (...titles) => titles.map((title) => ({ projectId, title }));

  // Create, read, update, delete; one and many.
  await db.insert(task).values(tasks("one"));
  const many = await db.insert(task).values(tasks("two", "three", "four")).returning({ id: task.id });
  assert.strictEqual(many.length, 3);
  await db.update(task).set({ points: sql`${task.points} + 2` }).where(eq(task.title, "one"));
  assert.strictEqual((await db.select().from(task).where(eq(task.title, "one")))[0].points, 3);
  assert.strictEqual((await db.delete(task).where(eq(task.title, "four"))).rowCount, 1);

  // Upserts.
  const upsert = (...titles) =>
    db.insert(task).values(tasks(...titles))
      .onConflictDoUpdate({ target: [task.projectId, task.title], set: { done: true } });
  await upsert("one", "five");
  await db.insert(task).values(tasks("one", "six")).onConflictDoNothing();
  assert.strictEqual(await total(), 5);

  // Transactions in transactions.
  await db.transaction(async (outer) => {
    await outer.insert(task).values(tasks("seven"));
    await assert.rejects(outer.transaction(async (inner) => {
      await inner.insert(task).values(tasks("undone"));
      inner.rollback();
    }));
    await outer.transaction((inner) => inner.insert(task).values(tasks("eight")));
  }, { isolationLevel: "repeatable read" });
  await assert.rejects(db.transaction(async (each) => {
    await each.insert(task).values(tasks("gone", "gone too"));
    throw new Error("undone");
  }));
  await db.transaction(async (each) => {
    const [locked] = await each.select().from(task).where(eq(task.title, "one")).for("update");
    await each.update(task).set({ points: locked.points + 1 }).where(eq(task.id, locked.id));
  });
  await assert.rejects(db.insert(task).values(tasks("one")), (error) => (error.cause ?? error).code === "23505");
  assert.strictEqual(await total(), 7);

  // Reading: relational queries, prepared ones, and many at once.
  const joined = await db.select().from(project).innerJoin(task, eq(task.projectId, project.id)).orderBy(asc(task.id));
  assert.strictEqual(joined.length, 7);
  const prepared = db.select().from(task).where(eq(task.title, sql.placeholder("title"))).prepare("by_title");
  const found = await Promise.all(["one", "two", "none"].map((title) => prepared.execute({ title })));
  assert.deepStrictEqual(found.map((rows) => rows.length), [1, 1, 0]);

  // There is room for ten.
  const detail = await refused(() => db.insert(task).values(tasks("a", "b", "c", "d")));
  assert.deepStrictEqual([detail.resourceType, detail.currentUsage, detail.limit], ["tasks", 7, 10]);
  await db.transaction(async (outer) => {
    await outer.insert(task).values(tasks("nine", "ten"));
    await refused(() => outer.transaction((inner) => inner.insert(task).values(tasks("eleven", "twelve"))));
    await outer.insert(task).values(tasks("eleven"));
  });
  assert.strictEqual(await total(), 10);
  await refused(() => db.transaction(async (each) => {
    await each.insert(project).values({ name: "undone with it" });
    await each.insert(task).values(tasks("twelve"));
  }));
  assert.strictEqual((await db.select().from(project)).length, 1);
  // Many at once, of which none fits.
  const racing = await Promise.allSettled(["x", "y", "z", "w"].map((title) => db.insert(task).values(tasks(title))));
  assert.ok(racing.every(({ status, reason }) => status === "rejected" && (reason.cause ?? reason).code === "53400"));

  // When it is full, what is there can still be written, and what is deleted makes room at once.
  await upsert("ten");
  await db.transaction(async (each) => {
    await each.delete(task).where(eq(task.title, "ten"));
    await each.insert(task).values(tasks("in its place"));
  });
  await db.delete(task).where(and(eq(task.projectId, projectId), inArray(task.title, ["one", "two"])));
  await db.insert(task).values(tasks("twelve", "thirteen"));
  await refused(() => db.insert(task).values(tasks("fourteen")));
  assert.strictEqual(await total(), 10);
  await db.delete(project).where(eq(project.id, projectId));
  assert.strictEqual(await total(), 0);
  await pool.end();
  console.log("all good");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
