-- Rows for the workspaces of `pgcordon dev`, loaded by the superuser, whom no policy binds. The numbers differ from
-- workspace to workspace, so that a count that is wrong is a count that leaks.

CREATE TEMPORARY TABLE "size" AS
SELECT w."id", s.*
FROM (VALUES
    ('acme', 'acme.example', 24, 8, 12, 6, 9, 60, 4),
    ('globex', 'globex.example', 15, 5, 7, 4, 6, 35, 3)
) AS s ("name", "domain", "segments", "journeys", "templates", "emails", "broadcasts", "users", "groups")
JOIN cordon.workspace w ON w.name = s."name";

CREATE FUNCTION pg_temp.pick(words text[], n integer) RETURNS text LANGUAGE sql IMMUTABLE
AS $$ SELECT words[1 + n % cardinality(words)] $$;

INSERT INTO "Workspace" ("id", "name", "domain") SELECT "id", initcap("name"), "domain" FROM "size";

INSERT INTO "Country" ("code", "name") VALUES
    ('AT', 'Austria'), ('BR', 'Brazil'), ('CA', 'Canada'), ('CH', 'Switzerland'), ('DE', 'Germany'), ('FR', 'France'),
    ('GB', 'United Kingdom'), ('IN', 'India'), ('JP', 'Japan'), ('US', 'United States');

INSERT INTO "SubscriptionGroup" ("workspaceId", "name", "type", "channel")
SELECT "id", pg_temp.pick('{Newsletter,Product updates,Event invitations,Text messages}', n),
    (CASE n WHEN 3 THEN 'OptOut' ELSE 'OptIn' END)::"SubscriptionGroupType",
    (CASE n WHEN 3 THEN 'Sms' ELSE 'Email' END)::"ChannelType"
FROM "size", generate_series(0, "groups" - 1) n;

INSERT INTO "Segment" ("workspaceId", "name", "definition", "status", "createdAt")
SELECT "id",
    pg_temp.pick('{New,Returning,Dormant,Loyal,High-value,Trial}', n) || ' '
        || pg_temp.pick('{customers,subscribers,shoppers,teams}', n / 6),
    jsonb_build_object('entryNode', jsonb_build_object('type', pg_temp.pick('{Trait,Performed,LastPerformed}', n), 'withinDays', 7 * (1 + n % 5))),
    pg_temp.pick('{Running,Running,Paused,NotStarted}', n)::"SegmentStatus",
    timestamp '2025-01-06 09:00' + n * interval '31 hours'
FROM "size", generate_series(0, "segments" - 1) n;

UPDATE "Segment" s SET "subscriptionGroupId" = g."id"
FROM "SubscriptionGroup" g
WHERE g."workspaceId" = s."workspaceId" AND g."name" = 'Newsletter' AND s."name" LIKE '%subscribers';

INSERT INTO "Journey" ("workspaceId", "name", "status", "definition", "canRunMultiple")
SELECT "id",
    pg_temp.pick('{Welcome series,Abandoned cart,Win-back,Birthday,Upgrade nudge,Trial ending,Review request,Onboarding tips}', n),
    pg_temp.pick('{Running,Paused,NotStarted}', n)::"JourneyStatus",
    jsonb_build_object('entry', pg_temp.pick('{signup,cart,idle,date}', n)), n % 2 = 0
FROM "size", generate_series(0, "journeys" - 1) n;

INSERT INTO "JourneyStep" ("journeyId", "position", "kind", "settings")
SELECT j."id", n, pg_temp.pick('{entry,delay,message,split,exit}', n), jsonb_build_object('hours', 12 * n)
FROM "Journey" j, generate_series(0, 4) n
ORDER BY j."workspaceId", j."name", n;

INSERT INTO "MessageTemplate" ("workspaceId", "name", "channel", "definition")
SELECT "id", pg_temp.pick('{Hello,Reminder,Thank you,Offer}', n) || ' ' || (1 + n / 4),
    pg_temp.pick('{Email,Sms,MobilePush}', n)::"ChannelType",
    jsonb_build_object('body', 'Hi {{ user.firstName }}, greetings from ' || initcap("name"))
FROM "size", generate_series(0, "templates" - 1) n;

INSERT INTO "EmailTemplate" ("workspaceId", "name", "from", "subject", "body")
SELECT "id", pg_temp.pick('{Welcome,Receipt,Digest,Invitation,Farewell,Survey}', n), 'hello@' || "domain",
    pg_temp.pick('{Welcome aboard,Your receipt,This week,You are invited,Sorry to see you go,How did we do?}', n),
    '<p>Dear {{ user.firstName }}, …</p>'
FROM "size", generate_series(0, "emails" - 1) n;

INSERT INTO "Broadcast" ("workspaceId", "name", "status", "segmentId", "messageTemplateId", "scheduledAt", "triggeredAt")
SELECT w."id", pg_temp.pick('{Spring sale,Summer sale,Autumn sale,Winter sale,Launch}', n) || ' ' || (2024 + n / 5),
    (CASE WHEN n < 4 THEN 'Completed' WHEN n < 6 THEN 'Scheduled' ELSE 'Draft' END)::"BroadcastStatus",
    (SELECT "id" FROM "Segment" s WHERE s."workspaceId" = w."id" ORDER BY "name" OFFSET n LIMIT 1),
    (SELECT "id" FROM "MessageTemplate" m WHERE m."workspaceId" = w."id" ORDER BY "name" OFFSET n % 4 LIMIT 1),
    timestamp '2025-03-01 08:00' + n * interval '13 days',
    CASE WHEN n < 4 THEN timestamp '2025-03-01 08:00' + n * interval '13 days' END
FROM "size" w, generate_series(0, w."broadcasts" - 1) n;

INSERT INTO "UserProperty" ("workspaceId", "name", "definition", "exampleValue")
SELECT "id", p."name", jsonb_build_object('type', 'Trait', 'path', p."name"), p."example"
FROM "size", (VALUES ('email', 'ada@example.com'), ('firstName', 'Ada'), ('country', 'GB'), ('plan', 'pro')) AS p ("name", "example");

INSERT INTO "UserPropertyAssignment" ("workspaceId", "userId", "userPropertyId", "value")
SELECT w."id", 'user-' || n, p."id",
    CASE p."name"
        WHEN 'email' THEN lower(pg_temp.pick('{Ada,Grace,Alan,Edsger,Barbara,Donald,Frances}', n)) || n || '@' || w."domain"
        WHEN 'firstName' THEN pg_temp.pick('{Ada,Grace,Alan,Edsger,Barbara,Donald,Frances}', n)
        WHEN 'country' THEN pg_temp.pick('{GB,US,DE,FR,IN,JP}', n)
        ELSE pg_temp.pick('{free,pro,team}', n)
    END
FROM "size" w JOIN "UserProperty" p ON p."workspaceId" = w."id", generate_series(1, w."users") n;

INSERT INTO "EmailProvider" ("workspaceId", "type", "apiKey")
SELECT "id", (CASE "name" WHEN 'acme' THEN 'Sendgrid' ELSE 'Postmark' END)::"EmailProviderType", 'demo-' || md5("id"::text)
FROM "size";

INSERT INTO "Integration" ("workspaceId", "name", "definition", "enabled")
SELECT w."id", i."name", jsonb_build_object('type', 'Sync'), i."name" <> 'Salesforce'
FROM "size" w, (VALUES ('HubSpot'), ('Salesforce'), ('Segment.io')) AS i ("name")
WHERE w."name" = 'acme' OR i."name" <> 'Salesforce';

INSERT INTO "Secret" ("workspaceId", "name", "value")
SELECT "id", s."name", 'demo-' || md5("name" || "id"::text)
FROM (SELECT w."id", n.* FROM "size" w, (VALUES ('webhook'), ('write-key')) AS n ("name")) AS s;

INSERT INTO "WriteKey" ("workspaceId", "secretId") SELECT "workspaceId", "id" FROM "Secret" WHERE "name" = 'write-key';

DROP TABLE "size";
ANALYZE;
