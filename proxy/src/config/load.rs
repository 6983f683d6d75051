//! From a file and the environment to settings, with every mistake found at once.
//!
//! The deserializer stops at the first mistake; so what is wrong is taken out of the table, noted with its path, and the
//! rest is tried again.

use std::ffi::OsString;
use std::fmt;
use std::path::Path;

use toml::{Table, Value};

use super::{PASSWORDS, SECRETS, Settings, environment};

/// More mistakes than this aren't told at once.
const MISTAKES_MAX: usize = 100;

/// Sections in which some keys are secrets.
const SECTIONS_WITH_SECRETS: [&str; 2] = ["http", "upstream"];

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The path of the key, such as `pool.size`; empty for the file as a whole.
    pub key: String,
    /// What is wrong with it.
    pub what: String,
}

impl Mistake {
    pub(super) fn new(key: impl Into<String>, what: impl Into<String>) -> Self {
        Self { key: key.into(), what: what.into() }
    }
}

impl std::error::Error for Mistake {}

impl fmt::Display for Mistake {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() { out.write_str(&self.what) } else { write!(out, "{}: {}", self.key, self.what) }
    }
}

impl Settings {
    /// Reads the settings from a file, if there is one, and lays the environment over it.
    ///
    /// # Errors
    /// Every mistake that can be seen.
    pub fn load(
        file: Option<&Path>,
        variables: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Self, Vec<Mistake>> {
        let mut table = match file {
            Some(file) => read(file).map_err(|mistake| vec![mistake])?,
            None => Table::new(),
        };
        let mut mistakes = Vec::new();
        environment::lay_over(&mut table, variables, &mut mistakes);
        read_secret_files(&mut table, "", &mut mistakes);
        let settings = deserialize(table, &mut mistakes);
        if let Some(settings) = &settings {
            settings.check(&mut mistakes);
        }
        match settings {
            Some(settings) if mistakes.is_empty() => Ok(settings),
            _ => Err(mistakes),
        }
    }
}

fn read(file: &Path) -> Result<Table, Mistake> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        Mistake::new("", format!("the configuration file {} can't be read: {error}", file.display()))
    })?;
    text.parse().map_err(|error: toml::de::Error| {
        // The parser's own rendering quotes the line, which may hold a secret.
        let line =
            error.span().and_then(|span| text.get(..span.start)).map_or(1, |before| before.matches('\n').count() + 1);
        Mistake::new("", format!("{}, line {line}: {}", file.display(), error.message()))
    })
}

/// `x_file = "path"` stands for `x`, for every secret `x`.
fn read_secret_files(table: &mut Table, path: &str, mistakes: &mut Vec<Mistake>) {
    for key in table.keys().cloned().collect::<Vec<_>>() {
        let full = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        if let Some(Value::Table(section)) = table.get_mut(&key) {
            read_secret_files(section, &full, mistakes);
            continue;
        }
        let is_secret = |name: &&str| path == PASSWORDS || SECRETS.contains(name);
        let Some(secret) = key.strip_suffix("_file").filter(is_secret) else { continue };
        let Some(Value::String(file)) = table.remove(&key) else {
            mistakes.push(Mistake::new(full, "must be the path of a file"));
            continue;
        };
        if table.contains_key(secret) {
            mistakes.push(Mistake::new(full, format!("both {secret} and {key} are given")));
            continue;
        }
        match std::fs::read_to_string(&file) {
            Ok(text) => {
                table.insert(secret.to_owned(), Value::String(text.trim_end_matches(['\r', '\n']).to_owned()));
            }
            Err(error) => mistakes.push(Mistake::new(full, format!("{file} can't be read: {error}"))),
        }
    }
}

fn deserialize(mut table: Table, mistakes: &mut Vec<Mistake>) -> Option<Settings> {
    for _ in 0..MISTAKES_MAX {
        let mut unknown = Vec::new();
        let mut track = serde_path_to_error::Track::new();
        let source = Value::Table(table.clone());
        let tracked = serde_path_to_error::Deserializer::new(source, &mut track);
        let read: Result<Settings, toml::de::Error> =
            serde_ignored::deserialize(tracked, |path| unknown.push(path.to_string()));
        match read {
            Ok(settings) => {
                mistakes.extend(unknown.into_iter().map(|key| Mistake::new(key, "there is no such key")));
                return Some(settings);
            }
            Err(error) => {
                let path = track.path().to_string();
                mistakes.push(Mistake::new(path.clone(), told(&path, error.message())));
                if !take_out(&mut table, &path) {
                    return None;
                }
            }
        }
    }
    None
}

/// The deserializer quotes what it found. Where that is a secret, or a section that holds some, only what it expected is told.
fn told(path: &str, message: &str) -> String {
    let last = path.rsplit('.').next().unwrap_or(path);
    let below = path.strip_prefix(PASSWORDS).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    let holds_secrets = path.is_empty() || SECTIONS_WITH_SECRETS.contains(&path);
    if !(below || holds_secrets || SECRETS.contains(&last)) {
        return message.to_owned();
    }
    let expected = message.rsplit_once(", expected ").map_or("something else", |(_, expected)| expected);
    format!("must be {}", expected.trim_start_matches("struct "))
}

fn take_out(table: &mut Table, path: &str) -> bool {
    let mut parts: Vec<&str> = path.split('.').collect();
    let Some(last) = parts.pop() else { return false };
    let last = last.split('[').next().unwrap_or(last);
    let mut here = table;
    for part in parts {
        match here.get_mut(part) {
            Some(Value::Table(next)) => here = next,
            _ => return false,
        }
    }
    here.remove(last).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, environment: &[(&str, &str)]) -> Result<Settings, Vec<String>> {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("pgcordon.toml");
        std::fs::write(&file, text).expect("a file");
        let environment = environment.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        Settings::load(Some(&file), environment).map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn all_mistakes_are_told_at_once_with_the_path_of_the_key() {
        let mistakes = load("[pool]\nsize = 'many'\nsise = 3\n[auth]\nmethod = 'none'\n[bogus]\nx = 1\n", &[])
            .expect_err("mistakes");
        for key in ["pool.size: ", "pool.sise: ", "auth.method: ", "bogus: "] {
            assert!(mistakes.iter().any(|mistake| mistake.starts_with(key)), "{key} in {mistakes:?}");
        }
        assert_eq!(mistakes.len(), 4, "{mistakes:?}");
    }

    #[test]
    fn no_mistake_shows_a_secret() {
        let wrong = [
            "[http]\ntoken = 4711",
            "[http]\ntoken = ['4711']",
            "[http]\ntoken = { a = 4711 }",
            "[upstream]\nadmin_url = 4711",
            "[upstream]\npasswords = '4711'",
            "[upstream.passwords]\npgcordon_app = 4711",
            "[upstream.passwords]\npgcordon_app = ['4711']",
            "upstream = '4711'",
            "http = 4711",
        ];
        for text in wrong {
            let mistakes = load(text, &[]).expect_err(text);
            assert!(!mistakes.is_empty() && mistakes.iter().all(|told| !told.contains("4711")), "{text}: {mistakes:?}");
        }
        let json = ("PGCORDON_UPSTREAM__PASSWORDS", "{\"pgcordon_app\": \"4711\"}");
        let mistakes = load("", &[json]).expect_err("JSON isn't TOML");
        assert!(mistakes[0].starts_with("upstream.passwords: ") && !mistakes[0].contains("4711"), "{mistakes:?}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let mistakes =
            Settings::load(Some(Path::new("/nonexistent/pgcordon.toml")), std::iter::empty()).expect_err("a mistake");
        assert!(mistakes[0].to_string().contains("/nonexistent/pgcordon.toml"));
    }

    #[test]
    fn a_secret_may_come_from_a_file_and_is_never_printed() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("token");
        std::fs::write(&file, "hunter2\n").expect("a file");
        let settings =
            load(&format!("[http]\ntoken_file = '{}'\n[upstream.passwords]\nx = 'hunter2'", file.display()), &[])
                .expect("settings");
        assert_eq!(settings.http.token.expose(), "hunter2");
        assert!(!format!("{settings:?}").contains("hunter2"));
        assert!(
            load("[http]\ntoken_file = '/nonexistent'", &[]).expect_err("a mistake")[0]
                .starts_with("http.token_file: ")
        );
    }

    #[test]
    fn a_roles_password_may_come_from_a_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("password");
        std::fs::write(&file, "hunter2").expect("a file");
        let settings = load(&format!("[upstream.passwords]\npgcordon_app_file = '{}'", file.display()), &[]);
        assert_eq!(settings.expect("settings").upstream.passwords["pgcordon_app"].expose(), "hunter2");
    }

    const DOCUMENTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/pgcordon.toml");

    fn documented() -> String {
        std::fs::read_to_string(DOCUMENTED).expect("the documented configuration")
    }

    #[test]
    fn the_documented_configuration_is_the_default_one_and_complete() {
        let said: Table = documented().parse().expect("TOML");
        let meant = Table::try_from(Settings::default()).expect("a table");
        assert_eq!(said, meant);
        let read = Settings::load(Some(Path::new(DOCUMENTED)), std::iter::empty()).expect("settings");
        assert_eq!(Table::try_from(read).expect("a table"), meant);
    }

    #[test]
    fn what_is_documented_in_comments_exists_and_every_key_is_explained() {
        let text = documented();
        let is_example = |line: &&str| {
            line.strip_prefix("# ").is_some_and(|rest| {
                rest.split_once(" = ")
                    .is_some_and(|(key, _)| key.chars().all(|each| each.is_ascii_lowercase() || each == '_'))
            })
        };
        let examples: Vec<&str> = text.lines().filter(is_example).collect();
        assert!(examples.len() >= 5, "{examples:?}");
        let uncommented: Vec<&str> =
            text.lines().map(|line| if is_example(&line) { &line[2..] } else { line }).collect();
        let mistakes = load(&uncommented.join("\n"), &[]).expect_err("files that don't exist");
        assert!(mistakes.iter().all(|mistake| !mistake.contains("no such key")), "{mistakes:?}");
        for optional in ["certificate", "key", "tls_root"] {
            assert!(examples.iter().any(|line| line.starts_with(&format!("# {optional} = "))), "{optional}");
        }
        let mut before = "";
        for line in text.lines() {
            let same_pair = before.starts_with("host = ") && line.starts_with("port = ");
            let is_key = !line.starts_with(['#', '[']) && line.contains(" = ");
            assert!(!is_key || before.starts_with('#') || same_pair, "{line} isn't explained");
            before = line;
        }
    }

    #[test]
    fn a_line_that_is_no_toml_is_named_without_being_quoted() {
        let mistakes = load("[http]\ntoken = hunter2\n", &[]).expect_err("a mistake");
        assert!(mistakes[0].contains("line 2") && !mistakes[0].contains("hunter2"), "{mistakes:?}");
    }
}
