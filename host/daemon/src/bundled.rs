//! The plugins that come with the server, inside its binary.

/// Name and component of each.
static BUNDLED: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/bundled.rs"));

/// The component of a bundled plugin.
pub(crate) fn find(name: &str) -> Option<&'static [u8]> {
    BUNDLED.iter().find(|(bundled, _)| *bundled == name).map(|(_, component)| *component)
}

/// The names that `component = "bundled:NAME"` may give.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    BUNDLED.iter().map(|(name, _)| *name)
}
