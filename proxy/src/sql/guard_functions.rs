//! Functions of Postgres, and of what comes with it, that a rule of the guard is about. A call is told by its name, and a
//! FunctionCall by its number: those of built-in functions never change (`pg_proc.dat`, from 15 to 18).

use super::guard_rule::Rule;

/// XMLTABLE, which is no function.
pub(super) const XML_TABLE: &str = "xmltable";

/// What evaluates an XPath expression: within libxml2 Postgres can't interrupt it, so that nobody can.
const XPATH: [&str; 4] = ["xmlexists", "xpath", "xpath_exists", XML_TABLE];

/// Whether it evaluates an XPath expression.
pub fn evaluates_xpath(name: &str) -> bool {
    XPATH.contains(&name)
}

/// What runs a text, or reads all that a name stands for.
pub(super) const DYNAMIC_SQL: [&str; 27] = [
    "query_to_xml",
    "query_to_xmlschema",
    "query_to_xml_and_xmlschema",
    "table_to_xml",
    "table_to_xmlschema",
    "table_to_xml_and_xmlschema",
    "schema_to_xml",
    "schema_to_xmlschema",
    "schema_to_xml_and_xmlschema",
    "database_to_xml",
    "database_to_xmlschema",
    "database_to_xml_and_xmlschema",
    "ts_stat",
    "ts_rewrite",
    XPATH[0],
    XPATH[1],
    XPATH[2],
    XPATH[3],
    // Of the extensions that come with Postgres: tablefunc, xml2, dblink.
    "crosstab",
    "crosstab2",
    "crosstab3",
    "crosstab4",
    "connectby",
    "xpath_table",
    "dblink",
    "dblink_exec",
    "dblink_open",
];
/// Where an extension's functions begin in it: they may be in any schema.
const OF_EXTENSIONS: usize = 18;

pub(super) const LARGE_OBJECTS: [&str; 18] = [
    "lo_close",
    "lo_creat",
    "lo_create",
    "lo_from_bytea",
    "lo_get",
    "lo_lseek",
    "lo_lseek64",
    "lo_open",
    "lo_put",
    "lo_tell",
    "lo_tell64",
    "lo_truncate",
    "lo_truncate64",
    "lo_unlink",
    "loread",
    "lowrite",
    // Of the extension lo.
    "lo_manage",
    "lo_oid",
];

pub(super) const SERVER_FILES: [&str; 19] = [
    "lo_import",
    "lo_export",
    "pg_read_file",
    "pg_read_file_old",
    "pg_read_binary_file",
    "pg_stat_file",
    "pg_ls_dir",
    "pg_ls_logdir",
    "pg_ls_waldir",
    "pg_ls_tmpdir",
    "pg_ls_archive_statusdir",
    "pg_ls_logicalsnapdir",
    "pg_ls_logicalmapdir",
    "pg_ls_replslotdir",
    "pg_ls_summariesdir",
    // Of the extension adminpack.
    "pg_file_write",
    "pg_file_rename",
    "pg_file_unlink",
    "pg_file_sync",
];

pub(super) const SIGNALS: [&str; 14] = [
    "pg_cancel_backend",
    "pg_terminate_backend",
    "pg_reload_conf",
    "pg_rotate_logfile",
    "pg_rotate_logfile_old",
    "pg_log_backend_memory_contexts",
    "pg_log_standby_snapshot",
    "pg_promote",
    "pg_switch_wal",
    "pg_create_restore_point",
    "pg_backup_start",
    "pg_backup_stop",
    "pg_wal_replay_pause",
    "pg_wal_replay_resume",
];

/// Notifies a channel.
pub const NOTIFY: &str = "pg_notify";
/// The number of [`NOTIFY`].
pub const NOTIFY_OID: u32 = 3036;

/// The numbers of those that have one.
const NUMBERS: [(u32, &str); 76] = [
    (715, "lo_create"),
    (764, "lo_import"),
    (765, "lo_export"),
    (767, "lo_import"),
    (952, "lo_open"),
    (953, "lo_close"),
    (954, "loread"),
    (955, "lowrite"),
    (956, "lo_lseek"),
    (957, "lo_creat"),
    (958, "lo_tell"),
    (964, "lo_unlink"),
    (1004, "lo_truncate"),
    (2096, "pg_terminate_backend"),
    (2171, "pg_cancel_backend"),
    (2172, "pg_backup_start"),
    (2614, "xmlexists"),
    (2621, "pg_reload_conf"),
    (2622, "pg_rotate_logfile"),
    (2623, "pg_stat_file"),
    (2624, "pg_read_file"),
    (2625, "pg_ls_dir"),
    (2739, "pg_backup_stop"),
    (2848, "pg_switch_wal"),
    (2923, "table_to_xml"),
    (2924, "query_to_xml"),
    (2926, "table_to_xmlschema"),
    (2927, "query_to_xmlschema"),
    (2929, "table_to_xml_and_xmlschema"),
    (2930, "query_to_xml_and_xmlschema"),
    (2931, "xpath"),
    (2932, "xpath"),
    (2933, "schema_to_xml"),
    (2934, "schema_to_xmlschema"),
    (2935, "schema_to_xml_and_xmlschema"),
    (2936, "database_to_xml"),
    (2937, "database_to_xmlschema"),
    (2938, "database_to_xml_and_xmlschema"),
    (3049, "xpath_exists"),
    (3050, "xpath_exists"),
    (3071, "pg_wal_replay_pause"),
    (3072, "pg_wal_replay_resume"),
    (3098, "pg_create_restore_point"),
    (3170, "lo_lseek64"),
    (3171, "lo_tell64"),
    (3172, "lo_truncate64"),
    (3293, "pg_read_file"),
    (3295, "pg_read_binary_file"),
    (3297, "pg_ls_dir"),
    (3307, "pg_stat_file"),
    (3353, "pg_ls_logdir"),
    (3354, "pg_ls_waldir"),
    (3436, "pg_promote"),
    (3457, "lo_from_bytea"),
    (3458, "lo_get"),
    (3459, "lo_get"),
    (3460, "lo_put"),
    (3685, "ts_rewrite"),
    (3689, "ts_stat"),
    (3690, "ts_stat"),
    (3826, "pg_read_file"),
    (3827, "pg_read_binary_file"),
    (3828, "pg_read_binary_file"),
    (4099, "pg_rotate_logfile_old"),
    (4100, "pg_read_file_old"),
    (4543, "pg_log_backend_memory_contexts"),
    (5029, "pg_ls_tmpdir"),
    (5030, "pg_ls_tmpdir"),
    (5031, "pg_ls_archive_statusdir"),
    (6208, "pg_read_file"),
    (6209, "pg_read_binary_file"),
    (6270, "pg_ls_logicalsnapdir"),
    (6271, "pg_ls_logicalmapdir"),
    (6272, "pg_ls_replslotdir"),
    (6305, "pg_log_standby_snapshot"),
    (6400, "pg_ls_summariesdir"),
];

/// The rule that a call of this function breaks, and the function's name.
pub(super) fn by_name(schema: Option<&str>, name: &str, arguments: usize) -> Option<(Rule, &'static str)> {
    if schema.is_some_and(|schema| schema != "pg_catalog") {
        let extensions = &DYNAMIC_SQL[OF_EXTENSIONS..];
        return extensions.iter().find(|each| **each == name).map(|name| (Rule::DynamicSql, *name));
    }
    // With three arguments it rewrites by what it is given.
    of(name).filter(|_| name != "ts_rewrite" || arguments == 2)
}

/// The same for a FunctionCall.
pub fn by_number(number: u32) -> Option<(Rule, &'static str)> {
    NUMBERS.binary_search_by_key(&number, |(each, _)| *each).ok().and_then(|at| of(NUMBERS[at].1))
}

fn of(name: &str) -> Option<(Rule, &'static str)> {
    let lists: [(Rule, &[&'static str]); 4] = [
        (Rule::DynamicSql, &DYNAMIC_SQL),
        (Rule::LargeObjects, &LARGE_OBJECTS),
        (Rule::ServerFiles, &SERVER_FILES),
        (Rule::Signals, &SIGNALS),
    ];
    lists.into_iter().find_map(|(rule, list)| list.iter().find(|each| **each == name).map(|name| (rule, *name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_a_listed_functions_and_is_found() {
        for (number, name) in NUMBERS {
            assert_eq!(by_number(number).map(|(_, name)| name), Some(name), "{number}");
        }
        assert_eq!(by_number(NOTIFY_OID), None);
    }

    #[test]
    fn a_function_of_somebodys_own_is_none_of_postgres() {
        assert_eq!(by_name(None, "lo_get", 1), Some((Rule::LargeObjects, "lo_get")));
        assert_eq!(by_name(Some("pg_catalog"), "pg_ls_dir", 1), Some((Rule::ServerFiles, "pg_ls_dir")));
        assert_eq!(by_name(Some("shop"), "lo_get", 1), None);
        assert_eq!(by_name(Some("public"), "crosstab", 1), Some((Rule::DynamicSql, "crosstab")));
        assert_eq!(by_name(None, "ts_rewrite", 3), None);
    }
}
