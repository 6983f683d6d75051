//! Control data: workspaces, keys and signing keys.
