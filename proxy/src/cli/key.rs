//! `pgcordon key`: creates, lists, rotates and revokes API keys, and says which rules of the guard they may break. A secret is shown once, when it is made.

use clap::Subcommand;
use serde_json::json;
use tokio_postgres::Client;

use super::Failure;
use super::connect::{Configured, control, operator, run as block_on, store as failed};
use super::output::secret_line;
use crate::auth::ApiKeySecret;
use crate::config::Settings;
use crate::control::key_role;
use crate::control::store::{self, ListedKey, NewKey};
use crate::domain::KeyKind;
use crate::pool::upstream::Address;
use crate::sql::{Rule, Rules};

/// Options of `key`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    configured: Configured,
    /// Prints JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Creates a key and prints its connection URL, once
    Create {
        /// The workspace, by name or id; a system key has none
        #[arg(long, required_unless_present = "kind", value_name = "W")]
        workspace: Option<String>,
        /// workspace or system; application and support keys come with a later version
        #[arg(long, default_value = "workspace")]
        kind: KeyKind,
        /// The upstream role, if not the kind's own
        #[arg(long, value_name = "R")]
        role: Option<String>,
        /// When it expires: 30d, 12h, 45m or 90s from now
        #[arg(long, value_name = "TIME", value_parser = seconds)]
        expires: Option<i64>,
        /// What people call it
        #[arg(long, value_name = "N")]
        name: Option<String>,
        /// Rules of the statement guard, as in [guard] of the configuration, that its statements may break
        #[arg(long, value_name = "RULE,…", value_delimiter = ',')]
        allow: Vec<Rule>,
    },
    /// Says which rules of the statement guard a key may break, instead of those until now; open sessions hold to it
    Allow {
        /// The key id
        key_id: String,
        /// The rules, as in [guard] of the configuration; none at all for a key like any other
        #[arg(value_name = "RULE,…", value_delimiter = ',')]
        rules: Vec<Rule>,
    },
    /// Lists keys, without any secret
    List {
        /// Only those of this workspace
        #[arg(long, value_name = "W")]
        workspace: Option<String>,
    },
    /// Gives a key a new secret; the old one opens no further session
    Rotate {
        /// The key id
        key_id: String,
    },
    /// Revokes a key: its sessions end, everywhere, within a second
    Revoke {
        /// The key id
        key_id: String,
    },
}

/// Does what is asked.
///
/// # Errors
/// No such workspace or key, Postgres unreachable.
pub fn run(args: Args) -> Result<(), Failure> {
    let settings = args.configured.settings()?;
    block_on(async {
        match &args.action {
            Action::Create { workspace, kind, role, expires, name, allow } => {
                let wanted = Wanted {
                    workspace: workspace.as_deref(),
                    kind: *kind,
                    role: role.as_deref(),
                    name: name.as_deref(),
                    expires: *expires,
                    allow: allow.iter().copied().collect(),
                };
                create(&settings, &wanted, args.json).await
            }
            Action::Allow { key_id, rules } => {
                allow(&settings, key_id, rules.iter().copied().collect(), args.json).await
            }
            Action::List { workspace } => list(&settings, workspace.as_deref(), args.json).await,
            Action::Rotate { key_id } => rotate(&settings, key_id, args.json).await,
            Action::Revoke { key_id } => revoke(&settings, key_id).await,
        }
    })
}

struct Wanted<'a> {
    workspace: Option<&'a str>,
    kind: KeyKind,
    role: Option<&'a str>,
    name: Option<&'a str>,
    expires: Option<i64>,
    allow: Rules,
}

async fn create(settings: &Settings, wanted: &Wanted<'_>, as_json: bool) -> Result<(), Failure> {
    match (wanted.kind, wanted.workspace) {
        (KeyKind::Application | KeyKind::Support, _) => {
            return Err(Failure::usage(format!("{} keys come with a later version", wanted.kind))
                .hint("workspace and system keys are there"));
        }
        (KeyKind::Workspace, None) => return Err(Failure::usage("a workspace key needs --workspace")),
        (KeyKind::System, Some(_)) => {
            return Err(Failure::usage("a system key has no workspace: leave out --workspace"));
        }
        (KeyKind::System, None) if wanted.allow != Rules::default() => {
            return Err(Failure::usage("the statement guard doesn't look at system keys: leave out --allow"));
        }
        _ => {}
    }
    let mut client = control(settings).await?;
    let workspace = match wanted.workspace {
        Some(name) => Some(store::find_workspace(&client, name).await.map_err(failed)?),
        None => None,
    };
    if let Some(name) = wanted.role {
        let role = key_role::find(&client, name).await.map_err(failed)?;
        let role = role.ok_or_else(|| Failure::usage(format!("--role {name}: there is no such role upstream")))?;
        if let Some(objection) = key_role::objection(&role, wanted.kind, &settings.upstream.roles) {
            return Err(Failure::usage(format!("--role {name}: {objection}")));
        }
    }
    let secret = ApiKeySecret::generate();
    let new = NewKey {
        workspace: workspace.as_ref().map(|workspace| workspace.id),
        kind: wanted.kind,
        role: wanted.role,
        name: wanted.name,
        expires_in: wanted.expires,
        allow: wanted.allow,
    };
    let expires_at = store::create_key(&mut client, &new, &secret, &operator()).await.map_err(failed)?;
    let role = wanted.role.unwrap_or_else(|| settings.upstream.roles.default_for(wanted.kind));
    if !may_authenticate(settings, role) {
        warn(&format!(
            "upstream.passwords has none for the role {role}: unless pg_hba.conf lets it in without, no session of this key can be opened"
        ));
    }
    let dsn = dsn(settings, &secret);
    let shown = if as_json {
        let key = json!({
            "key_id": secret.key_id.as_str(), "secret": secret.secret.as_str(), "dsn": dsn, "kind": wanted.kind.as_str(),
            "workspace": workspace.map(|workspace| workspace.name), "expires_at": expires_at, "allow": wanted.allow.names(),
        });
        secret_line(format_args!("{key}"))
    } else {
        secret_line(format_args!("{dsn}")).map(|()| say!("This is the only time the secret is shown."))
    };
    match shown {
        Ok(()) => Ok(()),
        Err(error) => Err(unshown(&mut client, secret.key_id.as_str(), &error).await),
    }
}

/// Nobody has seen the secret of a key that was just made: it goes again.
async fn unshown(client: &mut Client, key_id: &str, error: &std::io::Error) -> Failure {
    let what = format!("the key {key_id} was made, and can't be shown: {error}");
    match store::revoke_key(client, key_id, &operator()).await {
        Ok(_) => Failure::outside(what).hint("it is revoked again"),
        Err(error) => Failure::outside(what).hint(format!("revoke it: pgcordon key revoke {key_id} (tried: {error})")),
    }
}

/// Whether the proxy has something to authenticate with as this role: a password, or a socket that tells who it is.
fn may_authenticate(settings: &Settings, role: &str) -> bool {
    matches!(settings.address(), Address::Unix { .. })
        || settings.upstream.passwords.get(role).is_some_and(|password| !password.is_empty())
}

#[allow(clippy::print_stderr, reason = "this is where commands speak")]
fn warn(what: &str) {
    eprintln!("pgcordon: warning: {what}");
}

fn dsn(settings: &Settings, secret: &ApiKeySecret) -> String {
    let database = settings.upstream.databases.first().map_or("", String::as_str);
    format!("postgres://{}:{}@{}/{database}", secret.key_id, secret.secret.as_str(), settings.server.listen)
}

async fn allow(settings: &Settings, key_id: &str, rules: Rules, as_json: bool) -> Result<(), Failure> {
    let mut client = control(settings).await?;
    store::allow_key(&mut client, key_id, rules, &operator()).await.map_err(failed)?;
    match rules.names().as_slice() {
        names if as_json => say!("{}", json!({ "key_id": key_id, "allow": names })),
        [] => say!("{key_id} may break no rule of the statement guard"),
        names => say!("{key_id} may break: {}", names.join(", ")),
    }
    Ok(())
}

async fn list(settings: &Settings, workspace: Option<&str>, as_json: bool) -> Result<(), Failure> {
    let client = control(settings).await?;
    let workspace = match workspace {
        Some(name) => Some(store::find_workspace(&client, name).await.map_err(failed)?.id),
        None => None,
    };
    let keys = store::keys(&client, workspace).await.map_err(failed)?;
    if as_json {
        say!("{}", json!(keys));
        return Ok(());
    }
    for ListedKey { key_id, workspace, kind, name, expires_at, revoked_at, allow, .. } in &keys {
        let state = match (revoked_at, expires_at) {
            (Some(at), _) => format!("revoked {at}"),
            (None, Some(at)) => format!("expires {at}"),
            (None, None) => "good".to_owned(),
        };
        let (workspace, name) = (workspace.as_deref().unwrap_or("-"), name.as_deref().unwrap_or(""));
        let allowed = if allow.is_empty() { String::new() } else { format!("  allowed: {}", allow.join(", ")) };
        say!("{key_id}  {kind}  {workspace}  {state}  {name}{allowed}");
    }
    Ok(())
}

async fn rotate(settings: &Settings, key_id: &str, as_json: bool) -> Result<(), Failure> {
    let mut client = control(settings).await?;
    let secret = ApiKeySecret::for_key(crate::domain::KeyId::new(key_id));
    store::rotate_key(&mut client, &secret, &operator()).await.map_err(failed)?;
    let dsn = dsn(settings, &secret);
    let shown = if as_json {
        secret_line(format_args!("{}", json!({"key_id": key_id, "secret": secret.secret.as_str(), "dsn": dsn})))
    } else {
        let told = || say!("This is the only time the secret is shown. Sessions that are open stay open.");
        secret_line(format_args!("{dsn}")).map(|()| told())
    };
    shown.map_err(|error| {
        Failure::outside(format!("the key {key_id} has a new secret, and it can't be shown: {error}"))
            .hint(format!("the old one opens no session any more; give it another: pgcordon key rotate {key_id}"))
    })
}

async fn revoke(settings: &Settings, key_id: &str) -> Result<(), Failure> {
    let mut client = control(settings).await?;
    let was_good = store::revoke_key(&mut client, key_id, &operator()).await.map_err(failed)?;
    say!("{key_id} {}", if was_good { "is revoked" } else { "was revoked already" });
    Ok(())
}

/// The farthest expiry: Postgres' calendar ends, and a key that outlives everybody needs none.
const EXPIRES_MAX_SECONDS: i64 = 36_500 * 86_400;

/// `30d`, `12h`, `45m`, `90s`.
fn seconds(text: &str) -> Result<i64, String> {
    let units = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];
    let parsed = units.iter().find_map(|(unit, seconds)| {
        let number: i64 = text.strip_suffix(*unit)?.parse().ok()?;
        Some(number.saturating_mul(*seconds)).filter(|seconds| *seconds > 0)
    });
    match parsed {
        Some(seconds) if seconds > EXPIRES_MAX_SECONDS => {
            Err("at most 36500d: leave it out for a key that stays".to_owned())
        }
        Some(seconds) => Ok(seconds),
        None => Err("expected a number and a unit: 30d, 12h, 45m or 90s".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_password_and_a_socket_a_role_may_have_no_way_in() {
        let mut settings = Settings::default();
        assert!(!may_authenticate(&settings, "pgcordon_app"));
        settings.upstream.passwords.insert("pgcordon_app".to_owned(), "secret".to_owned().into());
        assert!(may_authenticate(&settings, "pgcordon_app") && !may_authenticate(&settings, "reporting"));
        settings.upstream.host = "/run/postgresql".to_owned();
        assert!(may_authenticate(&settings, "reporting"));
    }

    #[test]
    fn times_are_read_in_days_hours_minutes_and_seconds() {
        assert_eq!(seconds("30d"), Ok(2_592_000));
        assert_eq!(seconds("90s"), Ok(90));
        assert_eq!(seconds("36500d"), Ok(EXPIRES_MAX_SECONDS));
        assert!(seconds("36501d").is_err_and(|told| told.contains("36500d")));
        for wrong in ["", "d", "-1d", "0h", "1w", "30", "99999999999999999999d", "9223372036854775807d"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
