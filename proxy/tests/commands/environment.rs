//! What the environment may hold.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use crate::program::Ended;

fn check(variables: &[(&str, &[u8])]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgcordon"));
    command.args(["serve", "--check"]).env_clear().env("PGCORDON_AUDIT__ENABLED", "false");
    command.envs(variables.iter().map(|(name, value)| (name, OsStr::from_bytes(value))));
    Ended::of(&command.output().unwrap())
}

#[test]
fn variables_that_arent_utf8_are_ignored_or_named_but_never_a_panic() {
    assert_eq!(check(&[("SOMEBODY_ELSES", b"\xff\xfe")]).prints(), "the configuration is right\n");
    check(&[("PGCORDON_HTTP__TOKEN", b"\xff\xfe")]).fails(2, &["PGCORDON_HTTP__TOKEN", "isn't UTF-8"]);
}

#[test]
fn a_token_of_digits_is_a_token() {
    check(&[("PGCORDON_HTTP__TOKEN", b"12345")]).prints();
}
