//! The startup packet to the server.

use bytes::{BufMut, Bytes, BytesMut};

use super::{Protocol, StartupSettings};

pub(super) fn packet(database: &str, role: &str, protocol: Protocol, settings: &StartupSettings) -> Bytes {
    let mut packet = BytesMut::with_capacity(256);
    packet.put_u32(0);
    packet.put_u32(protocol.number());
    for (name, value) in parameters(database, role, settings) {
        for text in [name, value] {
            // A zero byte would end the text early and turn its rest into a parameter of its own.
            packet.extend(text.bytes().filter(|byte| *byte != 0));
            packet.put_u8(0);
        }
    }
    packet.put_u8(0);
    let length = u32::try_from(packet.len()).unwrap_or(u32::MAX);
    packet[..4].copy_from_slice(&length.to_be_bytes());
    packet.freeze()
}

fn parameters<'a>(
    database: &'a str,
    role: &'a str,
    settings: &'a StartupSettings,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    let fixed = [
        ("user", role),
        ("database", database),
        ("row_security", "on"),
        // A role may give itself a library that doesn't exist, and no backend would start.
        ("local_preload_libraries", ""),
        ("role", "none"),
        (settings.workspace_setting.as_str(), ""),
        (settings.seal_setting.as_str(), ""),
    ];
    let search_path = settings.search_path.as_deref().map(|path| ("search_path", path));
    let further = settings.further.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    fixed.into_iter().chain(search_path).chain(further)
}
