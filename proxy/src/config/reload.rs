//! What SIGHUP can change and what only a restart does. Deciding, by comparing two settings key by key, is done here; what
//! follows from it is done where the setting lives.

use toml::{Table, Value};

use super::Settings;

/// The keys, or sections, that take effect at once. Sessions that are open keep what they were opened with where it
/// concerns their opening: the certificate, the method of authentication.
const RELOADABLE: [&str; 10] = [
    "server.drain_timeout_ms",
    "tls",
    "auth",
    "upstream.tls_root",
    "upstream.tls_certificate",
    "upstream.tls_key",
    "guard",
    "limits",
    "http.token",
    "log.filter",
];

/// The keys in which two settings differ.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Those that take effect at once.
    pub taken: Vec<String>,
    /// Those that wait for a restart.
    pub kept: Vec<String>,
}

impl Changes {
    /// What differs between the settings in use and new ones.
    pub fn between(now: &Settings, new: &Settings) -> Self {
        let mut keys = Vec::new();
        if let (Ok(now), Ok(new)) = (Table::try_from(now), Table::try_from(new)) {
            differences("", &now, &new, &mut keys);
        }
        // Secrets show no value when they are serialised.
        for (key, same) in [
            ("http.token", now.http.token == new.http.token),
            ("upstream.admin_url", now.upstream.admin_url == new.upstream.admin_url),
            ("upstream.passwords", now.upstream.passwords == new.upstream.passwords),
        ] {
            if !same && !keys.iter().any(|each| each.starts_with(key)) {
                keys.push(key.to_owned());
            }
        }
        let is_reloadable = |key: &String| {
            RELOADABLE
                .iter()
                .any(|each| key.strip_prefix(each).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
        };
        let (taken, kept) = keys.into_iter().partition(is_reloadable);
        Self { taken, kept }
    }
}

fn differences(path: &str, now: &Table, new: &Table, keys: &mut Vec<String>) {
    let mut names: Vec<&String> = now.keys().chain(new.keys()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let full = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match (now.get(name), new.get(name)) {
            (Some(Value::Table(now)), Some(Value::Table(new))) => differences(&full, now, new, keys),
            (now, new) if now == new => {}
            _ => keys.push(full),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_that_differs_is_told_and_whether_it_takes_effect() {
        let (now, mut new) = (Settings::default(), Settings::default());
        new.pool.size = 3;
        new.log.filter = "debug".to_owned();
        new.tls.certificate = Some("server.crt".into());
        new.http.token = "secret".to_owned().into();
        new.upstream.passwords.insert("pgcordon_app".to_owned(), "secret".to_owned().into());
        let changes = Changes::between(&now, &new);
        assert_eq!(changes.taken, ["http.token", "log.filter", "tls.certificate"]);
        assert_eq!(changes.kept, ["pool.size", "upstream.passwords.pgcordon_app"]);
        assert_eq!(Changes::between(&new, &new), Changes::default());
    }

    #[test]
    fn a_secret_that_was_replaced_is_a_difference_although_neither_is_shown() {
        let (mut now, mut new) = (Settings::default(), Settings::default());
        now.http.token = "one".to_owned().into();
        new.http.token = "two".to_owned().into();
        now.upstream.passwords.insert("a".to_owned(), "one".to_owned().into());
        new.upstream.passwords.insert("a".to_owned(), "two".to_owned().into());
        let changes = Changes::between(&now, &new);
        assert_eq!(
            (changes.taken, changes.kept),
            (vec!["http.token".to_owned()], vec!["upstream.passwords".to_owned()])
        );
    }

    #[test]
    fn what_is_reloadable_exists() {
        let all = Table::try_from(Settings::default()).expect("a table");
        for key in RELOADABLE {
            let (section, name) = key.split_once('.').unwrap_or((key, ""));
            let section = all.get(section).and_then(Value::as_table).expect(key);
            // What isn't set has no key.
            assert!(name.is_empty() || section.contains_key(name) || name.starts_with("tls_"), "{key}");
        }
    }
}
