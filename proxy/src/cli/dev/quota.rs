//! `--quota RESOURCE=TABLE:LIMIT` of `pgcordon dev`: meters the application's tables.

use std::str::FromStr;

use tokio_postgres::Client;

use super::progress::Progress;
use crate::cli::Failure;
use crate::control::RoleNames;
use crate::control::schema::SchemaError;
use crate::control::schema::meter::{self, Options};

/// One `--quota`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) resource: String,
    pub(super) table: String,
    pub(super) limit: u64,
}

impl FromStr for Wish {
    type Err = String;

    /// A table's name may hold a colon in quotes, so the limit is what follows the last one.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.split_once('=').and_then(|(resource, rest)| Some((resource, rest.rsplit_once(':')?)));
        let Some((resource, (table, limit))) = parts else {
            return Err("it must read RESOURCE=TABLE:LIMIT, as in segments=Segment:5".to_owned());
        };
        if resource.is_empty() || table.is_empty() {
            return Err("the resource and the table both need a name, as in segments=Segment:5".to_owned());
        }
        let is_number = !limit.is_empty() && limit.bytes().all(|byte| byte.is_ascii_digit());
        let limit =
            is_number.then(|| limit.parse::<u64>().ok()).flatten().filter(|limit| i64::try_from(*limit).is_ok());
        let limit = limit.ok_or_else(|| format!("the limit must be a whole number from 0 to {}", i64::MAX))?;
        Ok(Self { resource: resource.to_owned(), table: table.to_owned(), limit })
    }
}

/// Two limits of one resource can't both hold.
pub(super) fn agree(wishes: &[Wish]) -> Result<(), Failure> {
    for (at, wish) in wishes.iter().enumerate() {
        let other = wishes[..at].iter().find(|other| other.resource == wish.resource && other.limit != wish.limit);
        if let Some(other) = other {
            return Err(Failure::usage(format!(
                "--quota gives {} two limits, {} and {}: the tables of one resource share one",
                wish.resource, other.limit, wish.limit
            )));
        }
    }
    Ok(())
}

/// Meters what was wished for. Doing it again changes nothing.
pub(super) async fn meter(
    client: &mut Client,
    roles: &RoleNames,
    wishes: &[Wish],
    progress: &Progress,
) -> Result<(), Failure> {
    for Wish { resource, table, limit } in wishes {
        let (tables, limit) = (vec![table.clone()], Some(*limit));
        let options = Options { resource: resource.clone(), tables, limit, ..Options::default() };
        let failed = |error: SchemaError| match &error {
            SchemaError::Refused(_) => Failure::usage(format!("--quota {resource}: {error}")),
            _ => Failure::outside(format!("--quota {resource}: {error}")),
        };
        let done = meter::meter(client, roles, &options).await.map_err(failed)?;
        progress.say(&format!("{resource} counts the rows of {}", done.tables.join(", ")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_reads_as_resource_table_and_limit() {
        let read = |text: &str| text.parse::<Wish>().map(|wish| (wish.resource, wish.table, wish.limit));
        assert_eq!(read("segments=Segment:5"), Ok(("segments".into(), "Segment".into(), 5)));
        assert_eq!(read("a b=public.\"x:y\":0"), Ok(("a b".into(), "public.\"x:y\"".into(), 0)));
        assert_eq!(read("s=t=u:9223372036854775807"), Ok(("s".into(), "t=u".into(), 9_223_372_036_854_775_807)));
        for wrong in ["", "segments", "segments=Segment", "segments:5", "=Segment:5", "segments=:5"] {
            assert!(read(wrong).unwrap_err().contains("segments=Segment:5"), "{wrong}");
        }
        for wrong in ["s=t:", "s=t:five", "s=t:-1", "s=t:+1", "s=t:1.5", "s=t: 5", "s=t:9223372036854775808"] {
            assert!(read(wrong).unwrap_err().contains("whole number"), "{wrong}");
        }
    }

    #[test]
    fn one_resource_has_one_limit() {
        let wishes = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<Wish>>();
        assert!(agree(&wishes(&["a=t:5", "b=t:6", "a=u:5"])).is_ok());
        assert!(agree(&wishes(&["a=t:5", "b=t:6", "a=u:6"])).unwrap_err().to_string().contains("two limits, 5 and 6"));
    }
}
