//! Named limits with their units. What an operator may want to change is in the configuration instead; these are the
//! bounds that keep memory and time finite whatever a peer sends.

use std::time::Duration;

/// The longest startup packet, in bytes, its length word included (Postgres: MAX_STARTUP_PACKET_LENGTH).
pub const STARTUP_PACKET_BYTES_MAX: usize = 10_000;

/// The longest message a client may send before it is authenticated, in bytes (Postgres: PG_MAX_AUTH_TOKEN_LENGTH).
pub const AUTH_MESSAGE_BYTES_MAX: usize = 65_535;

/// The longest message of the protocol, in bytes, its length word included (Postgres: PQ_LARGE_MESSAGE_LIMIT).
pub const MESSAGE_BYTES_MAX: usize = 0x3fff_ffff;

/// A Query or Parse up to this many bytes is opened and understood; a longer one is streamed and pins its client.
pub const OPENED_MESSAGE_BYTES_MAX: usize = 1 << 20;

/// Of a Parse that is longer, this much is looked at: within it its statement must have begun, if it has a name.
pub const PARSE_HEAD_BYTES: usize = 8 * 1024;

/// The longest text that is parsed, in bytes. The parser recurses without a bound of its own, up to once for each byte.
pub const PARSED_BYTES_MAX: usize = 64 * 1024;

/// The stack of a core's thread, in bytes: enough for the deepest parse tree of [`PARSED_BYTES_MAX`] bytes, at up to 1.4 kB
/// for a level. It is memory only as far as it is used.
pub const CORE_STACK_BYTES: usize = 256 << 20;

/// How many bytes of an unfinished cycle (messages up to a Sync) are gathered before a server connection is taken.
pub const GATHERED_BYTES_MAX: usize = 16 * 1024;

/// How many bytes are read from a socket at once. One buffer of this size serves all connections of a core.
pub const READ_BYTES: usize = 64 * 1024;

/// How many statements one client may have prepared.
pub const CLIENT_STATEMENTS_MAX: usize = 4096;

/// How many bytes the texts of one client's prepared statements may take.
pub const CLIENT_STATEMENT_BYTES_MAX: usize = 16 << 20;

/// How many portals that write one client may have, those whose answer is still to come included.
pub const CLIENT_PORTALS_MAX: usize = 16_384;

/// How many bytes their names and what the audit trail keeps of their texts may take.
pub const CLIENT_PORTAL_BYTES_MAX: usize = 16 << 20;

/// How many bytes the texts of all clients' prepared statements may take together. A text that many have counts once.
pub const ALL_STATEMENT_BYTES_MAX: usize = 512 << 20;

/// How many shared statement bodies one server connection keeps prepared.
pub const BACKEND_STATEMENTS_MAX: usize = 256;

/// How many bytes their texts may take. One that is longer is kept alone.
pub const BACKEND_STATEMENT_BYTES_MAX: usize = 4 << 20;

/// How many texts that come again and again without a name one server connection keeps prepared.
pub const REPEATS_MAX: usize = 128;

/// How many bytes these may take, their parameters' types included.
pub const REPEAT_BYTES_MAX: usize = 512 << 10;

/// A longer one isn't prepared: what Postgres makes of a text takes many times its length.
pub const REPEATED_TEXT_BYTES_MAX: usize = 8 << 10;

/// A cycle that is longer isn't sent by a name, for a copy of it is kept until it is bound.
pub const REPEATED_CYCLE_BYTES_MAX: usize = 16 << 10;

/// How long such a text stands as it was prepared.
pub const REPEAT_LIFE: Duration = Duration::from_secs(2);

/// The life of a sealed context, by the database's clock.
pub const SEAL_LIFE: Duration = Duration::from_secs(3600);

/// How long a cancel request may take to reach Postgres and be followed to the end of its connection.
pub const CANCEL_TIMEOUT: Duration = Duration::from_secs(10);

/// Cancel requests that are on their way to Postgres at once, at most. Further ones wait for their turn.
pub const CANCELS_MAX: usize = 64;

/// Cancel requests for one session that are on their way at once, at most. A further one asks for nothing that these don't
/// bring about.
pub const SESSION_CANCELS_MAX: usize = 2;

/// The connection of a cancel request is closed at the end of a span of this length, so that the time tells nobody whether the
/// key was right.
pub const CANCEL_BEAT: Duration = Duration::from_millis(20);

/// How long `DISCARD ALL` may take before the server connection is closed instead.
pub const CLEAR_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a server process that was told to end may take before what runs there is cancelled.
pub const END_BUSY_AFTER: Duration = Duration::from_millis(20);

/// How long it may take behind that before it is terminated.
pub const END_TERMINATE_AFTER: Duration = Duration::from_secs(1);

/// How often it is terminated again, or asked whether it is gone.
pub const END_TERMINATE_EVERY: Duration = Duration::from_secs(5);

/// How long a client that is about to stay where it is waits for the server connection that it was told of, before another one
/// does.
pub const HOME_TIMEOUT: Duration = Duration::from_millis(50);

/// How long a login waits for a server connection that is opened for it, before it is told of one that others have as well.
pub const HOME_OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a client that is to make way may do nothing first, if nothing is lost by it.
pub const YIELD_GRACE: Duration = Duration::from_millis(2);

/// The same for one that has written and may be about to ask which number its row got.
pub const YIELD_SEQUENCE_GRACE: Duration = Duration::from_secs(1);

/// Writes in a row behind which a client that hasn't asked isn't believed to be about to.
pub const UNASKED_WRITES_MAX: u8 = 3;

/// For how long a client that does something all the time need not make way.
pub const YIELD_TURN: Duration = Duration::from_millis(100);

/// How many texts of a workspace are looked at to learn whether its clients ask for numbers of sequences. Behind them they
/// are believed not to, until one does.
pub const TRIAL_LOOKS_MAX: u16 = 4096;

/// How many of these looks a session is granted at once.
pub const TRIAL_LOOKS_AT_ONCE: u16 = 16;

/// Behind how many statements that take numbers its clients stay meanwhile.
pub const TRIAL_STAYS_MAX: u16 = 32;

/// How long each of them may do nothing before it makes way.
pub const YIELD_TRIAL_GRACE: Duration = Duration::from_millis(10);

/// In how many workspaces that is tried out.
pub const TRIAL_WORKSPACES_MAX: usize = 1 << 16;

/// How many workspaces are known to ask for numbers of sequences, before all are forgotten.
pub const ASKING_WORKSPACES_MAX: usize = 4096;

/// Wrong keys of cancel requests for one process id in a second. Behind them none is looked at until the second is over: a
/// secret may have no more than 32 bits, and many sessions may share a process id.
pub const WRONG_CANCELS_MAX: u32 = 100;

/// Messages of one client that the server hasn't answered, at most. The next one waits until all are.
pub const PENDING_MESSAGES_MAX: usize = 10_000;

/// Channels that one session may listen to at once (a few hundred bytes each).
pub const CHANNELS_MAX: usize = 16 * 1024;
