//! Variables of the environment that stand above the file: `PGCORDON_SECTION__KEY`. Everything else of the environment,
//! however it is encoded, is somebody else's.

use std::collections::BTreeMap;
use std::ffi::OsString;

use toml::{Table, Value};

use super::load::Mistake;
use super::{PASSWORDS, Settings};

/// What the names of ours begin with.
const PREFIX: &str = "PGCORDON_";
/// Variables of that prefix that aren't configuration.
const OTHER_VARIABLES: [&str; 2] = ["PGCORDON_BIN", "PGCORDON_CONFIG"];
/// The section whose keys are tables, one for each role.
const BY_ROLE: &str = "upstream.approved_role_settings";

/// Lays the variables over what the file says.
pub(super) fn lay_over(
    table: &mut Table,
    environment: impl Iterator<Item = (OsString, OsString)>,
    mistakes: &mut Vec<Mistake>,
) {
    let variables = ours(environment, mistakes);
    // A variable stands above either form of a secret in the file, `token` and `token_file`.
    for path in variables.keys() {
        let Some((key, sections)) = path.split_last() else { continue };
        let other = key.strip_suffix("_file").map_or_else(|| format!("{key}_file"), str::to_owned);
        take(table, sections, &other);
    }
    let defaults = Table::try_from(Settings::default()).unwrap_or_default();
    for (path, text) in variables {
        let value = value(&defaults, &path, text);
        put(table, &path, value);
    }
}

/// Paths of keys, and the texts that are given for them.
fn ours(
    environment: impl Iterator<Item = (OsString, OsString)>,
    mistakes: &mut Vec<Mistake>,
) -> BTreeMap<Vec<String>, String> {
    let mut found = BTreeMap::new();
    for (name, value) in environment {
        if !name.as_encoded_bytes().starts_with(PREFIX.as_bytes()) {
            continue;
        }
        let shown = name.to_string_lossy().into_owned();
        if OTHER_VARIABLES.contains(&shown.as_str()) {
            continue;
        }
        match (name.to_str().and_then(|name| name.strip_prefix(PREFIX)), value.into_string()) {
            (Some(path), Ok(value)) => {
                found.insert(path.split("__").map(str::to_ascii_lowercase).collect(), value);
            }
            (None, _) => mistakes.push(Mistake::new(shown, "the name of this variable isn't UTF-8")),
            (_, Err(_)) => mistakes.push(Mistake::new(shown, "the value of this variable isn't UTF-8")),
        }
    }
    found
}

/// A text as what its key holds: only where that is no string is it read as TOML. A token of digits stays a token.
fn value(defaults: &Table, path: &[String], text: String) -> Value {
    if is_string(defaults, path) {
        return Value::String(text);
    }
    match format!("value = {text}").parse::<Table>() {
        Ok(mut parsed) if parsed.len() == 1 => parsed.remove("value").unwrap_or(Value::String(text)),
        _ => Value::String(text),
    }
}

/// Whether a key holds a string: its default is one, or it has none. Those that have none are the names of files, and what is
/// given by role.
fn is_string(defaults: &Table, path: &[String]) -> bool {
    let Some((key, sections)) = path.split_last() else { return true };
    match sections.join(".").as_str() {
        PASSWORDS => return true,
        BY_ROLE => return false,
        _ => {}
    }
    let section = sections.iter().try_fold(defaults, |table, name| table.get(name)?.as_table());
    section.and_then(|section| section.get(key)).is_none_or(Value::is_str)
}

fn put(table: &mut Table, path: &[String], value: Value) {
    match path {
        [] => {}
        [key] => {
            table.insert(key.clone(), value);
        }
        [section, rest @ ..] => {
            let section = table.entry(section.clone()).or_insert_with(|| Value::Table(Table::new()));
            if !section.is_table() {
                *section = Value::Table(Table::new());
            }
            if let Value::Table(section) = section {
                put(section, rest, value);
            }
        }
    }
}

fn take(table: &mut Table, sections: &[String], key: &str) {
    match sections {
        [] => {
            table.remove(key);
        }
        [section, rest @ ..] => {
            if let Some(Value::Table(section)) = table.get_mut(section) {
                take(section, rest, key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    fn load(file: &str, environment: &[(&str, &str)]) -> Result<Settings, Vec<String>> {
        let pairs = environment.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        load_os(file, pairs.collect())
    }

    fn load_os(file: &str, environment: Vec<(OsString, OsString)>) -> Result<Settings, Vec<String>> {
        let place = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(place.path(), file).expect("a file");
        Settings::load(Some(place.path()), environment.into_iter())
            .map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_variable_wins_over_the_file() {
        let environment = [("PGCORDON_POOL__SIZE", "7"), ("PGCORDON_SERVER__LISTEN", "127.0.0.1:1")];
        let settings = load("[pool]\nsize = 3\n", &environment).expect("settings");
        assert_eq!((settings.pool.size, settings.server.listen.as_str()), (7, "127.0.0.1:1"));
        assert!(load("", &[("PGCORDON_POOL__SIEZ", "7")]).is_err());
    }

    #[test]
    fn what_a_string_is_wanted_for_stays_one_whatever_it_looks_like() {
        for odd in ["12345", "true", "1.5", "[1]", "{a = 1}", "2030-01-01", "'quoted'", "", "a\nb = 1", "#"] {
            let settings = load(
                "",
                &[
                    ("PGCORDON_HTTP__TOKEN", odd),
                    ("PGCORDON_UPSTREAM__HOST", odd),
                    ("PGCORDON_UPSTREAM__ADMIN_URL", odd),
                    ("PGCORDON_UPSTREAM__PASSWORDS__PGCORDON_APP", odd),
                ],
            )
            .unwrap_or_else(|mistakes| panic!("{odd}: {mistakes:?}"));
            let upstream = &settings.upstream;
            let read = [settings.http.token.expose(), &upstream.host, upstream.admin_url.expose()];
            assert_eq!(read, [odd; 3]);
            assert_eq!(upstream.passwords["pgcordon_app"].expose(), odd);
        }
    }

    #[test]
    fn numbers_truth_values_lists_and_tables_are_read_as_such() {
        let settings = load(
            "",
            &[
                ("PGCORDON_UPSTREAM__DATABASES", "['a', 'b']"),
                ("PGCORDON_AUDIT__ENABLED", "false"),
                ("PGCORDON_UPSTREAM__APPROVED_ROLE_SETTINGS__PGCORDON_APP", "{ work_mem = '64MB' }"),
                ("PGCORDON_UPSTREAM__PASSWORDS", "{ x = 'y' }"),
            ],
        )
        .expect("settings");
        assert_eq!((settings.upstream.databases.len(), settings.audit.enabled), (2, false));
        assert_eq!(settings.upstream.approved_role_settings["pgcordon_app"]["work_mem"], "64MB");
        assert_eq!(settings.upstream.passwords["x"].expose(), "y");
        let mistakes = load("", &[("PGCORDON_POOL__SIZE", "many")]).expect_err("no number");
        assert!(mistakes[0].starts_with("pool.size: "), "{mistakes:?}");
    }

    #[test]
    fn a_variable_stands_above_either_form_of_a_secret() {
        let directory = tempfile::tempdir().expect("a directory");
        let token = directory.path().join("token");
        std::fs::write(&token, "of the file").expect("a file");
        let token = token.display().to_string();
        let read = |file: &str, environment: &[(&str, &str)]| {
            load(file, environment).map(|settings| settings.http.token.expose().to_owned())
        };
        let by_file = format!("[http]\ntoken_file = '{token}'");
        assert_eq!(read(&by_file, &[("PGCORDON_HTTP__TOKEN", "above")]).as_deref(), Ok("above"));
        let above = read("[http]\ntoken = 'below'", &[("PGCORDON_HTTP__TOKEN_FILE", &token)]);
        assert_eq!(above.as_deref(), Ok("of the file"));
        let both = [("PGCORDON_HTTP__TOKEN", "one"), ("PGCORDON_HTTP__TOKEN_FILE", token.as_str())];
        assert!(read("", &both).expect_err("both")[0].contains("both token and token_file"));
    }

    #[test]
    fn what_isnt_utf8_is_a_mistake_where_it_is_ours_and_ignored_where_it_isnt() {
        let odd = || OsString::from_vec(b"\xff\xfe".to_vec());
        assert!(load_os("", vec![("LANG".into(), odd()), (odd(), odd())]).is_ok());
        let named = load_os("", vec![("PGCORDON_HTTP__TOKEN".into(), odd())]).expect_err("a mistake");
        assert_eq!(named, ["PGCORDON_HTTP__TOKEN: the value of this variable isn't UTF-8"]);
        let name = OsString::from_vec(b"PGCORDON_\xff".to_vec());
        assert!(load_os("", vec![(name, "x".into())]).expect_err("a mistake")[0].contains("name of this variable"));
    }
}
