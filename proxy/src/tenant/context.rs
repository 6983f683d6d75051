//! What a workspace's context consists of on a server connection: the two settings, the mark and a random seed of its own.

use bytes::BytesMut;

use super::seal::Seal;
use crate::domain::WorkspaceId;
use crate::wire::inject::{SETSEED_OID, function_call, set_config};

/// The names of the two settings that carry the context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextNames {
    /// The plain uuid; policies that exist already may read it.
    pub workspace: Box<str>,
    /// Expiry and HMAC.
    pub seal: Box<str>,
}

impl Default for ContextNames {
    fn default() -> Self {
        Self { workspace: "app.workspace_id".into(), seal: "app.workspace_seal".into() }
    }
}

impl ContextNames {
    /// Whether a setting, in any case, is one of the two.
    pub fn contains(&self, name: &str) -> bool {
        name.eq_ignore_ascii_case(&self.workspace) || name.eq_ignore_ascii_case(&self.seal)
    }
}

/// Writes the bind. By FunctionCalls, because an unnamed Parse would destroy the client's own unnamed statement; the
/// seed because `random()`'s state outlives DISCARD ALL and would show the next tenant the last one's sequence.
///
/// `mark` is the number of `cordon.mark()` in this database: it has the seal verified now, once for all statements to come.
pub fn bind(
    out: &mut BytesMut,
    names: &ContextNames,
    (workspace, seal): (WorkspaceId, &Seal),
    mark: Option<u32>,
    seed: f64,
) {
    let mut uuid = [0; uuid::fmt::Hyphenated::LENGTH];
    let uuid = workspace.uuid().hyphenated().encode_lower(&mut uuid);
    set_config(out, names.workspace.as_bytes(), Some(uuid.as_bytes()));
    set_config(out, names.seal.as_bytes(), Some(seal.as_str().as_bytes()));
    if let Some(mark) = mark {
        function_call(out, mark, &[]);
    }
    function_call(out, SETSEED_OID, &[Some(seed.to_string().as_bytes())]);
}
