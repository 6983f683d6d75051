//! The settings a client asks for in its startup packet: parameters and `options`, as Postgres reads them.

use std::sync::Arc;

use crate::backend::Settings;
use crate::domain::{Fault, Origin, SqlState};
use crate::tenant::{Binding, ContextNames};
use crate::wire::startup::Startup;

/// The settings that a startup packet asks for. Whether Postgres accepts them is Postgres' to say.
///
/// # Errors
/// `options` that don't read as settings, or a context other than the key's own.
pub(super) fn of(startup: &Startup, binding: &Binding, names: &ContextNames) -> Result<Arc<Settings>, Fault> {
    let mut pairs = Vec::new();
    for (name, value) in &startup.parameters {
        match name.as_str() {
            "user" | "database" | "replication" => {}
            // Postgres reads `options` first and lays the other parameters over them, in whatever order they came.
            "options" => drop(pairs.splice(0..0, options(value)?)),
            name if name.starts_with("_pq_.") => {}
            _ => pairs.push((name.clone(), value.clone())),
        }
    }
    let mut wanted = Vec::with_capacity(pairs.len());
    for (name, value) in pairs {
        if !names.contains(&name) {
            wanted.push((name, value));
        } else if binding.workspace().is_none_or(|own| value != own.to_string()) {
            let text = format!("this key can't choose {name}: the workspace is the key's own");
            return Err(Fault::new(Origin::Client, SqlState::INSUFFICIENT_PRIVILEGE, text));
        }
    }
    Ok(Settings::of(wanted))
}

/// Reads `options` as the server's command line: `-c name=value`, `-cname=value`, `--name=value`; a backslash takes the
/// next character as it is (Postgres docs, "libpq: options").
fn options(text: &str) -> Result<Vec<(String, String)>, Fault> {
    let mut pairs = Vec::new();
    let mut words = split(text).into_iter();
    while let Some(word) = words.next() {
        let setting = if word == "-c" {
            words.next().ok_or_else(|| invalid(&word))?
        } else if let Some(rest) = word.strip_prefix("--") {
            rest.to_owned()
        } else if let Some(rest) = word.strip_prefix("-c") {
            rest.to_owned()
        } else {
            return Err(invalid(&word));
        };
        let (name, value) = setting.split_once('=').ok_or_else(|| invalid(&setting))?;
        pairs.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(pairs)
}

fn split(text: &str) -> Vec<String> {
    let (mut words, mut word, mut escaped, mut begun) = (Vec::new(), String::new(), false, false);
    for character in text.chars() {
        if escaped || !(character.is_ascii_whitespace() || character == '\\') {
            word.push(character);
            (escaped, begun) = (false, true);
        } else if character == '\\' {
            (escaped, begun) = (true, true);
        } else if std::mem::take(&mut begun) {
            words.push(std::mem::take(&mut word));
        }
    }
    if begun {
        words.push(word);
    }
    words
}

fn invalid(word: &str) -> Fault {
    Fault::protocol(format!("invalid command-line argument for server process: {word}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, String)> {
        options(text).expect("options")
    }

    #[test]
    fn options_are_read_in_every_spelling() {
        let expected = vec![("work_mem".to_owned(), "1MB".to_owned()), ("a.b".to_owned(), "x y".to_owned())];
        assert_eq!(read(r"-c work_mem=1MB -ca.b=x\ y"), expected);
        assert_eq!(read(r"  --work-mem=1MB   --a.b=x\ y "), expected);
        assert!(read("").is_empty());
    }

    #[test]
    fn what_is_no_setting_is_refused() {
        for text in ["-c", "-c work_mem", "-d 3", "work_mem=1", "--"] {
            assert!(options(text).is_err(), "{text}");
        }
    }
}
