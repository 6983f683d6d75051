// The JDBC driver, used as its users do. Arguments: acme's URL, globex' URL, the system key's URL.

import java.io.StringReader;
import java.io.StringWriter;
import java.net.URI;
import java.sql.*;
import java.util.*;
import java.util.concurrent.*;
import org.postgresql.PGConnection;
import org.postgresql.copy.CopyManager;

public class Jdbc {
    static Connection open(String url, String further) throws SQLException {
        URI parts = URI.create(url);
        String[] login = parts.getUserInfo().split(":");
        return DriverManager.getConnection(
            "jdbc:postgresql://" + parts.getHost() + ":" + parts.getPort() + parts.getPath() + "?" + further, login[0], login[1]);
    }

    static void check(boolean holds, String what) {
        if (!holds) throw new AssertionError(what);
    }

    static long number(Connection connection, String sql) throws SQLException {
        try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery(sql)) {
            rows.next();
            return rows.getLong(1);
        }
    }

    static void refused(String sqlState, SqlRunnable work) throws SQLException {
        try {
            work.run();
        } catch (SQLException error) {
            check(sqlState.equals(error.getSQLState()), error.toString());
            return;
        }
        throw new AssertionError(sqlState + " was expected");
    }

    interface SqlRunnable {
        void run() throws SQLException;
    }

    static long crud(String url, String further) throws Exception {
        try (Connection connection = open(url, further)) {
            long had = number(connection, "select count(*) from \"Segment\"");
            connection.setAutoCommit(false);
            String insert = "insert into \"Segment\" (name) values (?)";
            try (PreparedStatement batch = connection.prepareStatement(insert, Statement.RETURN_GENERATED_KEYS)) {
                for (int number = 0; number < 40; number++) {
                    batch.setString(1, "jdbc " + number);
                    batch.addBatch();
                }
                check(Arrays.stream(batch.executeBatch()).allMatch(rows -> rows == 1 || rows == Statement.SUCCESS_NO_INFO), "a batch");
                int keys = 0;
                for (ResultSet rows = batch.getGeneratedKeys(); rows.next(); keys++) rows.getObject("workspaceId", UUID.class);
                check(keys == 40, "generated keys");
            }
            Savepoint savepoint = connection.setSavepoint();
            refused("23505", () -> {
                try (PreparedStatement twice = connection.prepareStatement(insert)) {
                    twice.setString(1, "jdbc 1");
                    twice.executeUpdate();
                }
            });
            connection.rollback(savepoint);
            connection.commit();
            // Beyond the threshold the driver names its statements, and takes binary.
            try (PreparedStatement select = connection.prepareStatement("select name, \"createdAt\" from \"Segment\" where name = ?")) {
                for (int number = 0; number < 12; number++) {
                    select.setString(1, "jdbc " + number);
                    try (ResultSet rows = select.executeQuery()) {
                        check(rows.next() && rows.getString(1).equals("jdbc " + number) && rows.getTimestamp(2) != null, "a row");
                    }
                    connection.commit();
                }
            }
            // A portal with a row limit.
            try (Statement statement = connection.createStatement()) {
                statement.setFetchSize(7);
                int rows = 0;
                for (ResultSet read = statement.executeQuery("select name from \"Segment\""); read.next(); rows++) {}
                check(rows == had + 40, "fetched " + rows);
            }
            connection.commit();
            connection.setAutoCommit(true);
            CopyManager copy = connection.unwrap(PGConnection.class).getCopyAPI();
            StringWriter text = new StringWriter();
            check(copy.copyOut("copy (select name from \"Segment\" where name like 'jdbc %') to stdout", text) == 40, "copy out");
            refused("22012", () -> number(connection, "select 1/0"));
            connection.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
            check(number(connection, "select count(*) from \"Segment\" where current_setting('transaction_isolation') = 'serializable'") == had + 40, "isolation");
            connection.setReadOnly(true);
            connection.setAutoCommit(false);
            refused("25006", () -> number(connection, "delete from \"Segment\" returning 1"));
            connection.rollback();
            connection.setReadOnly(false);
            check(number(connection, "with gone as (delete from \"Segment\" where name like 'jdbc %' returning 1) select count(*) from gone") == 40, "deleted");
            connection.commit();
            check(connection.isValid(5), "valid");
            return had;
        }
    }

    static void migrate(String system, String acme) throws Exception {
        try (Connection owner = open(system, ""); Connection tenant = open(acme, "prepareThreshold=1")) {
            PreparedStatement select = tenant.prepareStatement("select * from \"Journey\" limit 1");
            for (int turn = 0; turn < 3; turn++) {
                try (ResultSet rows = select.executeQuery()) {
                    check(rows.next(), "a journey");
                }
            }
            int columns = tenant.getMetaData().getTables(null, "public", "%", new String[] {"TABLE"}).next() ? 0 : -1;
            check(columns == 0, "tables");
            owner.setAutoCommit(false);
            try (Statement statement = owner.createStatement()) {
                statement.execute("select pg_advisory_xact_lock(77)");
                statement.execute("create table flyway (version int primary key, at timestamptz default now()); insert into flyway values (1)");
                statement.execute("alter table \"Journey\" add column hint text default 'none'");
            }
            owner.commit();
            // The driver prepares again what the migration made stale, outside of a transaction.
            try (ResultSet rows = select.executeQuery()) {
                check(rows.next() && rows.getString("hint").equals("none"), "the new column");
            }
            ResultSet described = tenant.getMetaData().getColumns(null, "public", "Journey", "hint");
            check(described.next() && described.getString("TYPE_NAME").equals("text"), "metadata");
        }
    }

    static void cancel(String url) throws Exception {
        try (Connection connection = open(url, ""); Statement statement = connection.createStatement()) {
            statement.setQueryTimeout(1);
            refused("57014", () -> statement.execute("select pg_sleep(60)"));
            check(number(connection, "select 1") == 1, "after a cancel");
        }
    }

    static void crowd(String url) throws Exception {
        ExecutorService threads = Executors.newFixedThreadPool(8);
        List<Future<Long>> results = new ArrayList<>();
        for (int client = 0; client < 8; client++) {
            int own = client;
            results.add(threads.submit(() -> {
                long sum = 0;
                try (Connection connection = open(url, "prepareThreshold=1")) {
                    for (int turn = 0; turn < 30; turn++) sum += number(connection, "select " + own);
                }
                return sum;
            }));
        }
        for (int client = 0; client < 8; client++) check(results.get(client).get() == 30L * client, "of another client");
        threads.shutdown();
    }

    public static void main(String[] urls) throws Exception {
        long acme = crud(urls[0], "prepareThreshold=3");
        check(acme != crud(urls[1], "preferQueryMode=simple"), "the tenants have different numbers of rows");
        check(acme == crud(urls[0], "reWriteBatchedInserts=true&binaryTransfer=true&prepareThreshold=-1"), "the same tenant");
        migrate(urls[2], urls[0]);
        cancel(urls[0]);
        crowd(urls[0]);
        System.out.println("all good");
    }
}
