//! The names that Postgres knows a workspace's channels by. They are made with a secret of the workspace, so that nobody else
//! can listen to them or notify them, whatever text he sends; `cordon.pg_notify()` makes the same.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::domain::digits;

/// What the names of ours begin with.
const PREFIX: &str = "cordon_";
/// Hexadecimal digits of a hash that a name has: with the prefix it fits into one of Postgres' names.
const DIGITS: usize = 48;

/// The secret in the names of one workspace's channels.
#[derive(Clone)]
pub struct ChannelKey {
    bytes: Arc<Zeroizing<Vec<u8>>>,
}

impl ChannelKey {
    /// Wraps the bytes of `cordon.workspace.channel_key`.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { bytes: Arc::new(Zeroizing::new(bytes)) }
    }

    /// What Postgres calls the channel that the workspace calls so.
    pub fn name(&self, channel: &str) -> String {
        let mut hash = Sha256::new();
        hash.update(&**self.bytes);
        hash.update(channel.as_bytes());
        let hex = digits::hex_text(hash.finalize().into());
        format!("{PREFIX}{}", &hex[..DIGITS])
    }
}

impl fmt::Debug for ChannelKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("ChannelKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_workspaces_own_and_fits() {
        let (one, other) = (ChannelKey::new(vec![1; 32]), ChannelKey::new(vec![2; 32]));
        // As Postgres makes it: encode(sha256(decode(repeat('01', 32), 'hex') || 'news'), 'hex').
        assert_eq!(one.name("news"), "cordon_bd539ee977acb9665800a0ba2d3cd305db534f0cf5dda167");
        let names = [one.name("news"), one.name("News"), one.name(""), other.name("news"), one.name(&"x".repeat(63))];
        assert!(names.iter().all(|name| name.len() == PREFIX.len() + DIGITS && name.len() <= 63));
        assert!(names.iter().enumerate().all(|(at, name)| !names[..at].contains(name)));
        assert_eq!(format!("{one:?}"), "ChannelKey(…)");
    }
}
