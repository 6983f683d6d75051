//! `options` of a startup packet: the switches of the server's command line (Postgres docs, "postgres") as settings.

use crate::domain::{Fault, Origin, SqlState};

/// Switches that take an argument, in the word itself or as the next one.
const WITH_ARGUMENT: &str = "BCcDdfhkNprStvW-";

/// The settings that the switches stand for, in their order. Whether a client may set them is Postgres' to say.
///
/// # Errors
/// What Postgres refuses as well: an unknown switch, one without its argument, a setting without a value, anything that is
/// no switch.
pub(super) fn settings(options: &str) -> Result<Vec<(String, String)>, Fault> {
    let mut settings = Vec::new();
    let mut words = words(options).into_iter();
    while let Some(word) = words.next() {
        let mut switches = match word.strip_prefix('-') {
            Some("") | None => return Err(invalid(&word)),
            // Nothing behind this is a switch.
            Some("-") => return words.next().map_or(Ok(settings), |word| Err(invalid(&word))),
            Some(switches) => switches.chars(),
        };
        while let Some(switch) = switches.next() {
            let (mut argument, mut last) = (String::new(), word.clone());
            if WITH_ARGUMENT.contains(switch) {
                argument = std::mem::replace(&mut switches, "".chars()).as_str().to_owned();
                if argument.is_empty() {
                    argument = words.next().ok_or_else(|| invalid(&word))?;
                    last.clone_from(&argument);
                }
            }
            settings.extend(setting(switch, &argument, &last)?);
        }
    }
    Ok(settings)
}

/// What one switch sets; `last` is the last word that belongs to it. Some are there for the postmaster only, and mean nothing here.
fn setting(switch: char, argument: &str, last: &str) -> Result<Option<(String, String)>, Fault> {
    let (name, value) = match switch {
        'c' | '-' => {
            let dashes = if switch == 'c' { "-c " } else { "--" };
            let (name, value) =
                argument.split_once('=').ok_or_else(|| syntax(format!("{dashes}{argument} requires a value")))?;
            return Ok(Some((name.replace('-', "_"), value.to_owned())));
        }
        'B' => ("shared_buffers", argument),
        'd' => ("log_min_messages", debug_level(argument)),
        'e' => ("datestyle", "euro"),
        'F' => ("fsync", "false"),
        'f' => (plan(argument).ok_or_else(|| invalid(last))?, "false"),
        'h' => ("listen_addresses", argument),
        'i' => ("listen_addresses", "*"),
        'k' => ("unix_socket_directories", argument),
        'l' => ("ssl", "true"),
        'N' => ("max_connections", argument),
        'O' => ("allow_system_table_mods", "true"),
        'P' => ("ignore_system_indexes", "true"),
        'p' => ("port", argument),
        'S' => ("work_mem", argument),
        's' => ("log_statement_stats", "true"),
        't' => (statistics(argument).ok_or_else(|| invalid(last))?, "true"),
        'W' => ("post_auth_delay", argument),
        'b' | 'C' | 'D' | 'E' | 'j' | 'n' | 'r' | 'T' | 'v' => return Ok(None),
        _ => return Err(invalid(last)),
    };
    Ok(Some((name.to_owned(), value.to_owned())))
}

fn debug_level(argument: &str) -> &'static str {
    match argument.trim_start().trim_start_matches('+').chars().next() {
        Some('1') => "debug1",
        Some('2') => "debug2",
        Some('3') => "debug3",
        Some('4') => "debug4",
        Some('5'..='9') => "debug5",
        _ => "notice",
    }
}

fn plan(argument: &str) -> Option<&'static str> {
    Some(match argument.chars().next()? {
        's' => "enable_seqscan",
        'i' => "enable_indexscan",
        'o' => "enable_indexonlyscan",
        'b' => "enable_bitmapscan",
        't' => "enable_tidscan",
        'n' => "enable_nestloop",
        'm' => "enable_mergejoin",
        'h' => "enable_hashjoin",
        _ => return None,
    })
}

fn statistics(argument: &str) -> Option<&'static str> {
    match (argument.as_bytes().first()?, argument.as_bytes().get(1)) {
        (b'p', Some(b'a')) => Some("log_parser_stats"),
        (b'p', Some(b'l')) => Some("log_planner_stats"),
        (b'e', _) => Some("log_executor_stats"),
        _ => None,
    }
}

/// Words are parted by white space; a backslash takes the next character as it is.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut escaped, mut begun) = (Vec::new(), String::new(), false, false);
    for character in text.chars() {
        // C counts the vertical tab, Rust doesn't.
        let parts = character.is_ascii_whitespace() || character == '\u{b}';
        if escaped || !(parts || character == '\\') {
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
    syntax(format!("invalid command-line argument for server process: {word}"))
}

fn syntax(text: String) -> Fault {
    Fault::new(Origin::Client, SqlState::SYNTAX_ERROR, text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Vec<(String, String)> {
        settings(text).expect("settings")
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn settings_are_read_in_every_spelling() {
        let expected = pairs(&[("work_mem", "1MB"), ("a.b", "x y")]);
        assert_eq!(read(r"-c work_mem=1MB -ca.b=x\ y"), expected);
        assert_eq!(read("  --work-mem=1MB \u{b}\t --a.b=x\\ y "), expected);
        assert_eq!(read(r"-S 1MB -c a.b=x\ y"), expected);
        assert!(read("").is_empty() && read(" -n --").is_empty());
    }

    #[test]
    fn a_backslash_makes_any_character_a_part_of_its_word() {
        assert_eq!(read(r"-c a.b=\\\'x\-\n\	"), pairs(&[("a.b", "\\'x-n\t")]));
        assert_eq!(read(r"-c a.b=x\"), pairs(&[("a.b", "x")]), "one at the end is nothing");
        assert_eq!(read(r#"-c a.b="x"#), pairs(&[("a.b", "\"x")]), "quotes part nothing");
        assert_eq!(read("-c a.b="), pairs(&[("a.b", "")]));
        assert_eq!(read("-c a.b=c=d"), pairs(&[("a.b", "c=d")]));
    }

    #[test]
    fn switches_stand_for_settings_and_may_share_a_word() {
        assert_eq!(read("-e -fs"), pairs(&[("datestyle", "euro"), ("enable_seqscan", "false")]));
        assert_eq!(
            read("-neS64 -d 2"),
            pairs(&[("datestyle", "euro"), ("work_mem", "64"), ("log_min_messages", "debug2")])
        );
        assert_eq!(read("-t pl"), pairs(&[("log_planner_stats", "true")]));
    }

    #[test]
    fn what_postgres_refuses_is_refused_in_its_words() {
        for (text, words) in [
            ("-c", "invalid command-line argument for server process: -c"),
            ("-x", "invalid command-line argument for server process: -x"),
            ("-f q", "invalid command-line argument for server process: q"),
            ("work_mem=1", "invalid command-line argument for server process: work_mem=1"),
            ("-", "invalid command-line argument for server process: -"),
            ("-- x", "invalid command-line argument for server process: x"),
            ("-c work_mem", "-c work_mem requires a value"),
            ("--work-mem", "--work-mem requires a value"),
        ] {
            let fault = settings(text).expect_err(text);
            assert_eq!((&*fault.message, fault.sqlstate), (words, SqlState::SYNTAX_ERROR));
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in r"[-cBfSt=\\ a.\x{b}ä]{0,40}") {
            let _ = settings(&text);
        }
    }
}
