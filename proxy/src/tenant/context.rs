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

/// By what a database lets itself be bound, with the number that the function has there. The migrations tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BindBy {
    /// The settings alone: each statement verifies its seal.
    #[default]
    Settings,
    /// The same, and `cordon.mark()`: it has the seal verified now, once for all statements to come.
    Mark(u32),
    /// `cordon.bind()`, which does all of it.
    Call(u32),
}

/// Writes the bind. By FunctionCalls, because an unnamed Parse would destroy the client's own unnamed statement; the
/// seed because `random()`'s state outlives DISCARD ALL and would show the next tenant the last one's sequence.
///
/// `echo` becomes what its answer must say, for nobody else can: the seal, or what it is in.
pub fn bind(
    out: &mut BytesMut,
    names: &ContextNames,
    (workspace, seal): (WorkspaceId, &Seal),
    by: BindBy,
    seed: f64,
    echo: &mut String,
) {
    let mut uuid = [0; uuid::fmt::Hyphenated::LENGTH];
    let uuid = &*workspace.uuid().hyphenated().encode_lower(&mut uuid);
    let seed = seed.to_string();
    echo.clear();
    if let BindBy::Call(bind) = by {
        echo.extend([uuid, "|", seal.as_str(), "|", &seed]);
        return function_call(out, bind, &[Some(echo.as_bytes())]);
    }
    echo.push_str(seal.as_str());
    set_config(out, names.workspace.as_bytes(), Some(uuid.as_bytes()));
    set_config(out, names.seal.as_bytes(), Some(echo.as_bytes()));
    if let BindBy::Mark(mark) = by {
        function_call(out, mark, &[]);
    }
    function_call(out, SETSEED_OID, &[Some(seed.as_bytes())]);
}
