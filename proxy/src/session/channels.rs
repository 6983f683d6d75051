//! Channels of a workspace's own: LISTEN, UNLISTEN, NOTIFY and `pg_notify` in a client's text go out with names that only its
//! workspace has, and what comes back has the names that the client used. The text is changed where the parser found them;
//! errors point at what the client wrote.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use crate::backend::BackendState;
use crate::domain::limits::CHANNELS_MAX;
use crate::domain::{Fault, Origin, SqlState};
use crate::sql::channels::{self, Renamed, Shifts};
use crate::sql::guard_functions::{self, NOTIFY, NOTIFY_OID};
use crate::sql::guard_hit::is_switched_on;
use crate::sql::{Channel, Facts, GuardHit, Rule};
use crate::wire::inject;
use crate::wire::open::{self, Parse};

use super::admission::kept_text;
use super::client::Message;
use super::{Core, Session};

/// The schema of the function that notifies a workspace's own channel.
const SCHEMA: &str = "cordon";

/// What a session knows of its channels.
#[derive(Debug, Default)]
pub(super) struct Channels {
    /// The names that the client gave, by Postgres' names for them: of all that it may be listening to.
    /// A tree, for one without entries is a third of a map.
    given: BTreeMap<Box<[u8]>, Box<str>>,
    /// For the places in the queue of what is owed whose text was changed: how to find back.
    changed: Vec<(Range<u64>, Shifts)>,
}

impl Channels {
    /// The server connection is another one, and listens to nothing.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Session {
    /// The text as it is to go out, if that is another one.
    ///
    /// # Errors
    /// A text that may hide a channel, or a channel too many.
    pub(super) fn renamed(
        &mut self,
        text: &[u8],
        facts: Option<&Arc<Facts>>,
        backend: &BackendState,
        core: &Core<'_>,
    ) -> Result<Option<Renamed>, Fault> {
        let mentions = facts.map_or(&[][..], |facts| &facts.channels);
        let is_odd = !text.is_ascii() || text.contains(&b'\\');
        let Some(workspace) = self.workspace.filter(|_| is_odd || !mentions.is_empty()) else { return Ok(None) };
        if !core.guard.has_own_channels(self.allowed(core)) {
            return Ok(None);
        }
        let key = (core.channel_key)(workspace);
        let hides = is_odd && channels::mentions(text) && self.reads_otherwise(text, backend);
        if hides || (key.is_none() && !mentions.is_empty()) {
            let statement = facts.and_then(|facts| kept_text(facts, None, core));
            return self.judged(&[GuardHit::HidesChannel], statement, core).map_or(Ok(None), Err);
        }
        let Some(key) = key.filter(|_| !mentions.is_empty()) else { return Ok(None) };
        let listens = mentions.iter().filter(|mention| matches!(mention.channel, Channel::Listen(_))).count();
        if self.channels.given.len() + listens > CHANNELS_MAX {
            let text = format!("a session can't listen to more than {CHANNELS_MAX} channels");
            return Err(Fault::new(Origin::Client, SqlState::CONFIGURATION_LIMIT_EXCEEDED, text)
                .hint("DISCARD ALL, or another session, begins anew."));
        }
        Ok(channels::renamed(text, mentions, |channel| {
            Some(channel.name().map_or_else(|| SCHEMA.to_owned(), |name| key.name(name)))
        }))
    }

    /// Whether Postgres may take a text apart in another way than it was read here: strings with backslashes, or characters
    /// in another encoding.
    fn reads_otherwise(&self, text: &[u8], backend: &BackendState) -> bool {
        let is = |name: &str, usual: &[u8]| {
            let given = self.settings.get(name).is_none_or(|value| value.eq_ignore_ascii_case(usual));
            let reported =
                backend.reported().get(name.as_bytes()).is_none_or(|value| value.eq_ignore_ascii_case(usual));
            given && reported && !self.touched.iter().any(|each| **each == *name)
        };
        (text.contains(&b'\\') && !is("standard_conforming_strings", b"on"))
            || (!text.is_ascii() && !is("client_encoding", b"utf8"))
    }

    /// A statement with these facts is on its way: what it listens to will be told by Postgres' name.
    pub(super) fn note_channels(&mut self, facts: &Facts, core: &Core<'_>) {
        let listens = facts.channels.iter().filter_map(|mention| match &mention.channel {
            Channel::Listen(name) => Some(name),
            _ => None,
        });
        for name in listens {
            let Some(key) = self.workspace.and_then(|workspace| (core.channel_key)(workspace)) else { return };
            self.channels.given.insert(key.name(name).into_bytes().into(), name.clone());
        }
    }

    /// The name that the client gave a channel, or the one that it has; none if it isn't one of the workspace's.
    pub(super) fn own_channel<'a>(&'a self, channel: &'a [u8], core: &Core<'_>) -> Option<&'a [u8]> {
        match self.channels.given.get(channel) {
            Some(given) => Some(given.as_bytes()),
            None if self.workspace.is_some() && core.guard.has_own_channels(self.allowed(core)) => None,
            None => Some(channel),
        }
    }

    /// What is owed at these places is for a text that was changed so.
    pub(super) fn note_changed(&mut self, places: Range<u64>, renamed: Option<Renamed>) {
        let Some(renamed) = renamed else { return };
        let head = self.expects.head_at();
        self.channels.changed.retain(|(places, _)| places.end > head);
        self.channels.changed.push((places, renamed.shifts));
    }

    /// The position of an error in the text that the client wrote, if it is another one than Postgres says.
    pub(super) fn position_of(&self, error: &[u8]) -> Option<usize> {
        let head = self.expects.head_at();
        let (_, shifts) = self.channels.changed.iter().find(|(places, _)| places.contains(&head))?;
        let told = open::error_field(error, b'P').and_then(|range| std::str::from_utf8(&error[range]).ok())?;
        Some(shifts.back(told.parse().ok()?))
    }

    /// The guard's word on a FunctionCall of a tenant's.
    pub(super) fn guarded_call(&mut self, message: Message<'_>, core: &Core<'_>) -> Option<Fault> {
        self.workspace?;
        let hit = match open::function_oid(message.seen())? {
            NOTIFY_OID => GuardHit::Calls(Rule::Channels, NOTIFY),
            inject::SET_CONFIG_OID if message.can_be_opened() => of_setting(message, core)?,
            number => {
                let (rule, name) = guard_functions::by_number(number)?;
                GuardHit::Calls(rule, name)
            }
        };
        self.judged(&[hit], None, core)
    }
}

/// What a FunctionCall of `set_config` attempts.
fn of_setting(message: Message<'_>, core: &Core<'_>) -> Option<GuardHit> {
    let [Some(name), value] = open::set_config(message.seen()).ok()? else { return None };
    let name = std::str::from_utf8(name).ok()?.to_ascii_lowercase();
    let value = value.and_then(|value| std::str::from_utf8(value).ok());
    match name.as_str() {
        name if core.names.contains(name) => Some(GuardHit::TouchesContext(name.into())),
        "role" if value == Some("none") => None,
        "role" | "session_authorization" => Some(GuardHit::ChangesRole),
        // NULL resets it.
        "row_security" => value.is_some_and(|value| !is_switched_on(value)).then_some(GuardHit::SetsRowSecurity),
        _ => None,
    }
}

/// What follows the name in a Parse, with the changed text.
pub(super) fn rest<'a>(parse: &Parse<'a>, renamed: Option<&Renamed>) -> Cow<'a, [u8]> {
    match renamed {
        Some(renamed) => Cow::Owned([&renamed.text, &parse.rest[parse.text.len()..]].concat()),
        None => Cow::Borrowed(parse.rest),
    }
}
