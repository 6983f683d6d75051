const { boolean, integer, jsonb, pgTable, serial, text, uniqueIndex } = require("drizzle-orm/pg-core");

const project = pgTable("project", {
  id: serial("id").primaryKey(),
  name: text("name").notNull(),
  settings: jsonb("settings").notNull().default({}),
});

const task = pgTable(
  "task",
  {
    id: serial("id").primaryKey(),
    projectId: integer("project_id").notNull().references(() => project.id, { onDelete: "cascade" }),
    title: text("title").notNull(),
    done: boolean("done").notNull().default(false),
    points: integer("points").notNull().default(1),
  },
  (table) => [uniqueIndex("task_title").on(table.projectId, table.title)],
);

module.exports = { project, task };
