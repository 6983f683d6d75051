//! Newtypes for what identifies a tenant. Two ids of different kinds can't be mistaken for each other.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use uuid::Uuid;

/// A workspace: one tenant of the shared database.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkspaceId(Uuid);

impl WorkspaceId {
    /// Wraps the uuid under which `cordon.workspace` knows the workspace.
    pub const fn new(id: Uuid) -> Self {
        Self(id)
    }

    /// The plain uuid, as policies compare it.
    pub const fn uuid(self) -> Uuid {
        self.0
    }
}

impl fmt::Display for WorkspaceId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, out)
    }
}

impl fmt::Debug for WorkspaceId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, out)
    }
}

impl FromStr for WorkspaceId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::parse_str(text).map(Self)
    }
}

/// The public half of an API key: the user name of the connection URL.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(Arc<str>);

impl KeyId {
    /// Wraps a key id as it stands in `cordon.api_key`.
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self(id.into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// What a key is for, and with it where its workspace comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// Always the key's own workspace.
    Workspace,
    /// One shared application server: the workspace is chosen per transaction.
    Application,
    /// A psql debugging session of a person: the workspace is chosen when connecting.
    Support,
    /// No workspace: a role that bypasses row-level security.
    System,
}

impl KeyKind {
    /// The name in `cordon.api_key.kind`, on the command line and in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Workspace => "workspace",
            Self::Application => "application",
            Self::Support => "support",
            Self::System => "system",
        }
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// A key kind that is none of the four.
#[derive(Debug, thiserror::Error)]
#[error("unknown key kind {0:?}: expected workspace, application, support or system")]
pub struct UnknownKeyKind(String);

impl FromStr for KeyKind {
    type Err = UnknownKeyKind;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "workspace" => Ok(Self::Workspace),
            "application" => Ok(Self::Application),
            "support" => Ok(Self::Support),
            "system" => Ok(Self::System),
            other => Err(UnknownKeyKind(other.to_owned())),
        }
    }
}
