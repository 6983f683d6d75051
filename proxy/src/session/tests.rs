//! The session's scripts: what a client and a server say, and what each then gets.

use std::sync::Arc;

use bytes::BytesMut;

use super::{AuditPolicy, Core, Habits, Idle, Lanes, Leaving, Progress, Session, Taken, Texts};
use crate::backend::{BackendState, Bodies, Parameters, Settings};
use crate::domain::{Fault, KeyId, Origin, SqlState, WorkspaceId};
use crate::quota::Accounts;
use crate::sql::{Analysis, Catalog, PinReason, Rules};
use crate::tenant::{ChannelKey, ContextNames, Guard, SigningKey, SigningKeys};
use crate::wire::frame::{Frame, HEAD};
use crate::wire::inject;

mod books;
mod channels;
mod context;
mod copying;
mod effects;
mod errors;
mod lodging;
mod portals;
mod records;
mod repeating;
mod statements;
mod trial;

/// A session between a client and one server connection at a time, and everything they were sent, as words.
struct Stage {
    session: Session,
    backend: BackendState,
    analysis: Analysis,
    bodies: Bodies,
    signing_keys: SigningKeys,
    names: ContextNames,
    now: i64,
    guard: Guard,
    allowed: Rules,
    accounts: Accounts,
    catalog: Option<Arc<Catalog>>,
    audit: AuditPolicy,
    habits: Habits,
    repeats: bool,
    lanes: Lanes,
}

impl Stage {
    fn new() -> Self {
        Self::with(Settings::none())
    }

    fn with(settings: Arc<Settings>) -> Self {
        let workspace: WorkspaceId = "00000000-0000-0000-0000-00000000000a".parse().expect("a uuid");
        Self {
            session: Session::new(1, Some(workspace), settings).of_key(KeyId::new("k")),
            backend: BackendState::new(7, 0),
            analysis: Analysis::default(),
            bodies: Bodies::default(),
            signing_keys: SigningKeys::new([SigningKey::new(1, vec![1; 32])]).expect("a key"),
            names: ContextNames::default(),
            now: 1_000_000,
            guard: Guard::default(),
            allowed: Rules::default(),
            accounts: Accounts::new(crate::quota::Settings::default(), Arc::default()),
            catalog: None,
            audit: AuditPolicy { strict: false, texts: Texts::Normalized, refuses: false },
            habits: Habits::default(),
            repeats: true,
            lanes: Lanes::default(),
        }
    }

    /// A session that holds a server connection that is bound already.
    fn attached() -> Self {
        let mut stage = Self::new();
        stage.attach();
        stage.server("V Z(I) V(seal) Z(I) V Z(I)");
        stage
    }

    fn attach(&mut self) -> String {
        self.lent(|session, backend, core, lanes| session.attach(backend, true, core, lanes));
        self.sent_to_server(&[])
    }

    /// Gives the server connection back and takes another one.
    fn move_to_another(&mut self, pid: i32) {
        assert!(self.session.may_leave());
        self.session.detached();
        self.backend = BackendState::new(pid, 0);
        self.attach();
        self.server("V Z(I) V(seal) Z(I) V Z(I)");
    }

    /// The same, and this is what it is given.
    fn move_to_another_with(&mut self, pid: i32, given: &str) {
        assert!(self.session.may_leave());
        self.session.detached();
        self.backend = BackendState::new(pid, 0);
        assert_eq!(self.attach(), given);
    }

    fn lent<T>(&mut self, run: impl FnOnce(&mut Session, &mut BackendState, &mut Core<'_>, &mut Lanes) -> T) -> T {
        let (catalog, now) = (self.catalog.clone(), self.now);
        let mut core = Core {
            analysis: &mut self.analysis,
            bodies: &self.bodies,
            signing_keys: &self.signing_keys,
            names: &self.names,
            now,
            clock: &|| now * 1_000_000,
            seed: &|| 0.5,
            guard: &self.guard,
            allowed: &|_| self.allowed,
            channel_key: &|_| Some(ChannelKey::new(vec![1; 32])),
            catalog: &|| catalog.clone(),
            accounts: &self.accounts,
            audit: self.audit,
            habits: &self.habits,
            repeats: self.repeats,
        };
        run(&mut self.session, &mut self.backend, &mut core, &mut self.lanes)
    }

    /// The client sends; what goes to the server is returned.
    fn client(&mut self, script: &str) -> String {
        let bytes = script_bytes(script);
        let (taken, state) = self.raw_client(&bytes);
        assert_eq!(taken, bytes.len(), "{script}");
        assert_ne!(state, Taken::Ended, "{script}");
        self.sent_to_server(&bytes)
    }

    /// The client sends more than may be passed on; what went to the server is returned, and the messages that wait.
    fn held(&mut self, script: &str) -> (String, String) {
        let bytes = script_bytes(script);
        let (taken, state) = self.raw_client(&bytes);
        assert_eq!(state, Taken::Held, "{script}");
        (self.sent_to_server(&bytes), words(&bytes[taken..]))
    }

    fn raw_client(&mut self, bytes: &[u8]) -> (usize, Taken) {
        self.lent(|session, backend, core, lanes| session.on_client(bytes, backend, core, lanes)).expect("no fault")
    }

    fn sent_to_server(&mut self, input: &[u8]) -> String {
        let words = words(self.lanes.server.bytes(input));
        self.lanes.server.clear();
        words
    }

    fn sent_to_client(&mut self, input: &[u8]) -> String {
        let words = words(self.lanes.client.bytes(input));
        self.lanes.client.clear();
        words
    }

    /// The server sends; what goes to the client is returned.
    /// `V(seal)` stands for the echo of the seal that was asked for.
    fn server(&mut self, script: &str) -> String {
        let bytes = script_bytes(&script.replace("V(seal)", &format!("V({})", self.session.bind_echo)));
        let (taken, progress) = self
            .lent(|session, backend, core, lanes| session.on_server(&bytes, backend, core, lanes))
            .expect("no fault");
        assert_eq!((taken, progress), (bytes.len(), Progress::Going), "{script}");
        self.sent_to_client(&bytes)
    }

    fn broken_by(&mut self, script: &str) -> Fault {
        let bytes = script_bytes(script);
        self.lent(|session, backend, core, lanes| session.on_server(&bytes, backend, core, lanes)).expect_err("a fault")
    }
}

/// A message of a script is `TAG`, `TAG(text)` or `TAG(text,text)`; the texts become what such a message carries.
fn script_bytes(script: &str) -> Vec<u8> {
    let mut out = BytesMut::new();
    let mut rest = script.trim();
    while !rest.is_empty() {
        let tag = rest.as_bytes()[0];
        let body = if rest[1..].starts_with('(') {
            let end = rest.find(") ").unwrap_or(rest.len() - 1);
            let body = &rest[2..end];
            rest = rest[end + 1..].trim_start();
            body
        } else {
            rest = rest[1..].trim_start();
            ""
        };
        message(&mut out, tag, body);
    }
    out.to_vec()
}

fn message(out: &mut BytesMut, tag: u8, body: &str) {
    let (first, second) = body.split_once(',').unwrap_or((body, ""));
    let bytes = match tag {
        b'Q' | b'f' => format!("{body}\0").into_bytes(),
        b'P' => format!("{first}\0{second}\0\0\0").into_bytes(),
        // Portal, statement, no formats, no values, no result formats.
        b'B' => format!("{first}\0{second}\0\0\0\0\0\0\0").into_bytes(),
        b'D' if body.len() != 1 && body.contains(':') => format!("{}\0", body.replacen(':', "", 1)).into_bytes(),
        b'C' if body.starts_with("S:") || body.starts_with("P:") => {
            format!("{}\0", body.replacen(':', "", 1)).into_bytes()
        }
        b'E' if body.contains("SQLSTATE") => format!("SERROR\0VERROR\0C{}\0Mx\0\0", &body[8..]).into_bytes(),
        b'E' if body == "DENIED" => b"SERROR\0VERROR\0C53400\0Mpgcordon: denied\0\0".to_vec(),
        b'E' if body == "FATAL" => b"SFATAL\0VFATAL\0C57P01\0Mx\0\0".to_vec(),
        b'E' => [first.as_bytes(), b"\0", &second.parse().unwrap_or(0_u32).to_be_bytes()].concat(),
        b'N' if first == "report" => notice(b"INFO", &report_detail(second), ""),
        b'V' if body.is_empty() => (-1_i32).to_be_bytes().to_vec(),
        b'V' => [&i32::try_from(body.len()).expect("short").to_be_bytes()[..], body.as_bytes()].concat(),
        b'S' if !body.is_empty() => format!("{first}\0{second}\0").into_bytes(),
        _ => body.as_bytes().to_vec(),
    };
    bytes::BufMut::put_u8(out, tag);
    bytes::BufMut::put_u32(out, u32::try_from(bytes.len() + 4).expect("short"));
    bytes::BufMut::put_slice(out, &bytes);
}

/// A meter's report with a CONTEXT, or another notice that looks like one.
fn notice(severity: &[u8], detail: &str, context: &str) -> Vec<u8> {
    let severity = String::from_utf8_lossy(severity);
    format!("S{severity}\0V{severity}\0CCM100\0Mpgcordon meter\0D{detail}\0W{context}\0\0").into_bytes()
}

/// What the server connection of a stage reports: the tag of its process id, and the changes.
fn report_detail(changes: &str) -> String {
    use hmac::{Hmac, Mac};
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&[1; 32]).expect("any length will do");
    mac.update(b"meter|7");
    let tag: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{tag} {changes}")
}

/// What was sent, as words: `F(…)` shows its arguments, names show where they matter.
fn words(mut bytes: &[u8]) -> String {
    let mut all = Vec::new();
    while let Ok(Some(frame)) = Frame::from_server(bytes) {
        let body = &bytes[HEAD..frame.total];
        let text = |body: &[u8]| String::from_utf8_lossy(body).replace('\0', "|").trim_end_matches('|').to_owned();
        let word = match frame.tag {
            b'F' => function_word(body),
            b'E' if body.starts_with(b"S") => {
                format!("E({})", text(body).split('|').find(|part| part.starts_with('C')).unwrap_or("?"))
            }
            _ if text(body).is_empty() => (frame.tag as char).to_string(),
            _ => format!("{}({})", frame.tag as char, text(body)),
        };
        all.push(word);
        bytes = &bytes[frame.total..];
    }
    assert!(bytes.is_empty(), "half a message was sent");
    all.join(" ")
}

fn function_word(body: &[u8]) -> String {
    let oid = u32::from_be_bytes([body[0], body[1], body[2], body[3]]);
    let name = match oid {
        inject::SET_CONFIG_OID => "set",
        inject::CURRENT_SETTING_OID => "show",
        inject::SETSEED_OID => return "seed".to_owned(),
        _ => "call",
    };
    let argument = |at: usize| {
        let length = i32::from_be_bytes([body[at], body[at + 1], body[at + 2], body[at + 3]]);
        let end = at + 4 + usize::try_from(length).unwrap_or(0);
        (String::from_utf8_lossy(&body[at + 4..end]).into_owned(), end)
    };
    if body[8..10] == [0, 0] {
        return "mark".to_owned();
    }
    let (setting, next) = argument(10);
    let value = if name == "set" { argument(next).0 } else { String::new() };
    match setting.as_str() {
        "app.workspace_id" => "bind".to_owned(),
        "app.workspace_seal" => "seal".to_owned(),
        whole if whole.starts_with("00000000-0000-0000-0000-00000000000a|") && whole.ends_with("|0.5") => {
            "whole".to_owned()
        }
        _ => format!("{name}({setting}={value})"),
    }
}

#[test]
fn a_client_that_sent_half_a_cycle_takes_no_server_connection() {
    let mut stage = Stage::new();
    let bytes = script_bytes("P(,select 1) B(,) E()");
    let (taken, idle) = stage.session.on_idle_client(&bytes, &mut stage.lanes).expect("no fault");
    assert_eq!((taken, idle), (0, Idle::More));
    let bytes = script_bytes("P(,select 1) B(,) E() S");
    assert_eq!(stage.session.on_idle_client(&bytes, &mut stage.lanes).expect("no fault"), (0, Idle::NeedsServer));
}

#[test]
fn a_bare_sync_needs_no_server() {
    let mut stage = Stage::new();
    let bytes = script_bytes("S S");
    assert_eq!(stage.session.on_idle_client(&bytes, &mut stage.lanes).expect("no fault"), (bytes.len(), Idle::More));
    assert_eq!(stage.sent_to_client(&[]), "Z(I) Z(I)");
}

#[test]
fn a_refused_cycle_is_answered_once_and_the_next_one_is_heard() {
    let mut stage = Stage::new();
    let fault = Fault::new(Origin::Proxy, SqlState::TOO_MANY_CONNECTIONS, "full");
    let bytes = script_bytes("P(,select 1) B(,) E() S Q(select 2)");
    let refused = stage.session.refuse(&bytes, &fault, &mut stage.lanes).expect("no fault");
    let (taken, idle) = stage.session.on_idle_client(&bytes[refused..], &mut stage.lanes).expect("no fault");
    assert_eq!(idle, Idle::NeedsServer);
    assert_eq!(stage.sent_to_client(&[]), "E(C53300) Z(I)");
    assert_eq!(&bytes[refused + taken..], script_bytes("Q(select 2)"));
}

#[test]
fn a_message_of_no_known_type_ends_the_session() {
    let mut stage = Stage::new();
    let bytes = b"y\0\0\0\x04";
    assert_eq!(
        stage.session.on_idle_client(bytes, &mut stage.lanes).expect_err("a fault").sqlstate,
        SqlState::PROTOCOL_VIOLATION
    );
}

#[test]
fn a_server_that_answers_what_nobody_asked_is_broken() {
    for script in ["Z(I)", "D", "V", "1", "C(x)"] {
        assert_eq!(Stage::attached().broken_by(script).origin, Origin::Upstream, "{script}");
    }
}

#[test]
fn the_session_leaves_clean_only_at_a_boundary() {
    let mut stage = Stage::attached();
    assert_eq!(stage.session.leaving(&stage.backend), Leaving::Clean);
    stage.client("Q(begin)");
    assert_eq!(stage.session.leaving(&stage.backend), Leaving::Busy);
    stage.server("C(BEGIN) Z(T)");
    assert!(!stage.session.may_leave());
    assert_eq!(stage.session.leaving(&stage.backend), Leaving::Busy);
    stage.client("Q(commit)");
    stage.server("C(COMMIT) Z(I)");
    assert!(stage.session.may_leave());
}

#[test]
fn a_pinned_session_keeps_its_backend_after_commit() {
    let mut stage = Stage::attached();
    stage.client("Q(listen a)");
    stage.server("C(LISTEN) Z(I)");
    assert_eq!(stage.session.pinned(), Some(PinReason::Listen));
    assert!(!stage.session.may_leave());
    assert_eq!(stage.session.leaving(&stage.backend), Leaving::Soiled);
}
