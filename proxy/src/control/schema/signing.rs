//! The keys of the seals: made, replaced, retired. Two are valid while one replaces the other, so that nothing that was sealed
//! before is refused.

use hmac::digest::crypto_common::BlockSizeUser;
use rand::RngCore;
use sha2::Sha256;
use tokio_postgres::{Client, GenericClient};
use zeroize::Zeroizing;

use super::{SchemaError, require_migrated};
use crate::domain::limits::SEAL_LIFE;

/// A key of the seals, without the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its number.
    pub id: i32,
    /// When it was made, by the database's clock, as Postgres writes it.
    pub created_at: String,
    /// Its age in seconds.
    pub age: i64,
}

/// The valid keys, newest first.
///
/// # Errors
/// Postgres can't be asked, or the schema isn't there.
pub async fn valid(client: &Client) -> Result<Vec<Key>, SchemaError> {
    require_migrated(client).await?;
    read(client).await
}

async fn read(client: &impl GenericClient) -> Result<Vec<Key>, SchemaError> {
    let rows = client
        .query(
            "SELECT id, created_at::text, floor(extract(epoch FROM clock_timestamp() - created_at))::bigint FROM cordon.signing_key \
             WHERE retired_at IS NULL ORDER BY id DESC",
            &[],
        )
        .await
        .map_err(SchemaError::at("the keys of the seals"))?;
    Ok(rows.iter().map(|row| Key { id: row.get(0), created_at: row.get(1), age: row.get(2) }).collect())
}

/// Makes the first key, where there is none.
pub(super) async fn first(client: &Client) -> Result<(), SchemaError> {
    if read(client).await?.is_empty() {
        add(client).await?;
    }
    Ok(())
}

/// Has the newest key kept (`migrations/0012_bind.sql`), where it isn't: a change to the keys was rolled back, or they were copied from
/// elsewhere without their sequence.
pub(super) async fn keep(client: &Client) -> Result<(), SchemaError> {
    client
        .batch_execute(
            "UPDATE cordon.signing_key AS k SET retired_at = NULL WHERE retired_at IS NULL \
                 AND id = (SELECT pg_catalog.max(id) FROM cordon.signing_key WHERE retired_at IS NULL) \
                 AND NOT EXISTS (SELECT FROM cordon.key_epoch AS e WHERE e.key_id = k.id \
                     AND e.epoch = pg_catalog.pg_sequence_last_value('cordon.epoch_in_force'))",
        )
        .await
        .map_err(SchemaError::at("the epoch of the newest key of the seals"))
}

/// Makes a new key. The one before stays valid until [`retire`]; what was sealed with it is sealed anew with the client's next
/// message outside a transaction.
///
/// # Errors
/// Two are valid already.
pub async fn rotate(client: &mut Client) -> Result<Key, SchemaError> {
    require_migrated(client).await?;
    let transaction = alone(client).await?;
    if let [newest, older, ..] = read(&transaction).await?.as_slice() {
        return Err(SchemaError::Refused(format!(
            "the keys {} and {} are both valid: a third would end the older one, so retire it first (pgcordon seal retire)",
            newest.id, older.id
        )));
    }
    add(&transaction).await?;
    let made = read(&transaction).await?;
    commit(transaction).await?;
    made.into_iter().next().ok_or_else(|| SchemaError::Refused("the new key can't be read back".to_owned()))
}

/// Ends all keys but the newest; seals made with them are refused from now on. Returns which.
///
/// # Errors
/// The newest is younger than a seal lives: who has an older one in an open transaction would be refused. With `now` he is.
pub async fn retire(client: &mut Client, now: bool) -> Result<Vec<i32>, SchemaError> {
    require_migrated(client).await?;
    let transaction = alone(client).await?;
    let keys = read(&transaction).await?;
    let [newest, older @ ..] = keys.as_slice() else { return Ok(Vec::new()) };
    let life = i64::try_from(SEAL_LIFE.as_secs()).unwrap_or(i64::MAX);
    if !older.is_empty() && !now && newest.age < life {
        return Err(SchemaError::Refused(format!(
            "the key {} is in use for {} s, and seals made before it live for an hour: wait, or give --now, and transactions that \
             are open are refused",
            newest.id, newest.age
        )));
    }
    let ids: Vec<i32> = older.iter().map(|key| key.id).collect();
    transaction
        .execute("UPDATE cordon.signing_key SET retired_at = pg_catalog.now() WHERE id = ANY ($1)", &[&ids])
        .await
        .map_err(SchemaError::at("the keys of the seals"))?;
    commit(transaction).await?;
    Ok(ids)
}

/// A transaction in which nobody else changes the keys.
async fn alone(client: &mut Client) -> Result<tokio_postgres::Transaction<'_>, SchemaError> {
    let at = || SchemaError::at("the keys of the seals");
    let transaction = client.transaction().await.map_err(at())?;
    transaction
        .batch_execute("SET LOCAL lock_timeout = '5s'; LOCK TABLE cordon.signing_key IN SHARE ROW EXCLUSIVE MODE")
        .await
        .map_err(at())?;
    Ok(transaction)
}

async fn commit(transaction: tokio_postgres::Transaction<'_>) -> Result<(), SchemaError> {
    transaction.commit().await.map_err(SchemaError::at("the keys of the seals"))
}

async fn add(client: &impl GenericClient) -> Result<(), SchemaError> {
    let mut secret = Zeroizing::new([0; 32]);
    rand::rng().fill_bytes(&mut *secret);
    let pad = |with: u8| {
        let mut block = Zeroizing::new(vec![with; Sha256::block_size()]);
        block.iter_mut().zip(secret.iter()).for_each(|(padded, byte)| *padded ^= byte);
        block
    };
    let (inner, outer) = (pad(0x36), pad(0x5c));
    client
        .execute(
            "INSERT INTO cordon.signing_key (secret, inner_pad, outer_pad) VALUES ($1, $2, $3)",
            &[&&secret[..], &&inner[..], &&outer[..]],
        )
        .await
        .map_err(SchemaError::at("the key of the seals"))?;
    Ok(())
}
