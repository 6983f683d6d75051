//! One transaction through a session that holds a server connection which is bound to its workspace: the client's messages on
//! their way to the server, and the answer on its way back.

use std::sync::Arc;

use criterion::Criterion;
use pgcordon::backend::{BackendState, Bodies, Settings};
use pgcordon::domain::{KeyId, WorkspaceId};
use pgcordon::quota::{self, Accounts};
use pgcordon::session::{AuditPolicy, Core, Habits, Lanes, Progress, Session, Taken, Texts};
use pgcordon::sql::{Analysis, Rules};
use pgcordon::tenant::{ChannelKey, ContextNames, Guard, SigningKey, SigningKeys};

use crate::messages;

const NOW: i64 = 1_000_000;
const KEY: i32 = 1;

pub(super) fn all(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("session");
    let cycles = [
        ("a simple cycle", messages::simple_cycle(), messages::answer()),
        ("an extended cycle, unnamed", messages::unnamed_cycle(), messages::extended_answer(true)),
    ];
    for (name, asked, answered) in cycles {
        let mut stage = Stage::new();
        group.bench_function(name, |bench| bench.iter(|| stage.cycle(&asked, &answered)));
    }
    let mut stage = Stage::new();
    stage.cycle(&messages::prepare_cycle(), &[messages::message(b'1', b""), messages::message(b'Z', b"I")].concat());
    let (asked, answered) = (messages::named_cycle(), messages::extended_answer(false));
    group.bench_function("an extended cycle, prepared", |bench| bench.iter(|| stage.cycle(&asked, &answered)));
    group.finish();
}

/// A session and all that a core lends it.
struct Stage {
    session: Session,
    backend: BackendState,
    analysis: Analysis,
    bodies: Bodies,
    signing_keys: SigningKeys,
    names: ContextNames,
    guard: Guard,
    accounts: Accounts,
    habits: Habits,
    lanes: Lanes,
}

impl Stage {
    fn new() -> Self {
        let workspace: WorkspaceId = "00000000-0000-0000-0000-00000000000a".parse().expect("a uuid");
        let mut backend = BackendState::new(7, 0);
        // It served the workspace last, as nearly always.
        backend.sealed(NOW + 3600, KEY);
        let mut stage = Self {
            session: Session::new(1, Some(workspace), Settings::none()).of_key(KeyId::new("k")),
            backend,
            analysis: Analysis::default(),
            bodies: Bodies::default(),
            signing_keys: SigningKeys::new([SigningKey::new(KEY, vec![1; 32])]).expect("a key"),
            names: ContextNames::default(),
            guard: Guard::default(),
            accounts: Accounts::new(quota::Settings::default(), Arc::default()),
            habits: Habits::default(),
            lanes: Lanes::default(),
        };
        stage.lent(|session, backend, core, lanes| session.attach(backend, false, core, lanes));
        assert!(stage.lanes.server.is_empty(), "nothing is missing on the server connection");
        stage
    }

    fn lent<T>(&mut self, run: impl FnOnce(&mut Session, &mut BackendState, &mut Core<'_>, &mut Lanes) -> T) -> T {
        let mut core = Core {
            analysis: &mut self.analysis,
            bodies: &self.bodies,
            signing_keys: &self.signing_keys,
            names: &self.names,
            now: NOW,
            clock: &|| NOW * 1_000_000,
            repeats: true,
            seed: &|| 0.5,
            guard: &self.guard,
            allowed: &|_| Rules::default(),
            channel_key: &|_| Some(ChannelKey::new(vec![1; 32])),
            catalog: &|| None,
            accounts: &self.accounts,
            audit: AuditPolicy { strict: false, texts: Texts::Normalized, refuses: false },
            habits: &self.habits,
        };
        run(&mut self.session, &mut self.backend, &mut core, &mut self.lanes)
    }

    /// What one transaction comes to: everything is passed on, and the session is at a boundary again.
    fn cycle(&mut self, asked: &[u8], answered: &[u8]) {
        let taken = self.lent(|session, backend, core, lanes| session.on_client(asked, backend, core, lanes));
        assert_eq!(taken.expect("no fault"), (asked.len(), Taken::All));
        assert!(!self.lanes.server.bytes(asked).is_empty());
        self.lanes.server.clear();
        let told = self.lent(|session, backend, core, lanes| session.on_server(answered, backend, core, lanes));
        assert_eq!(told.expect("no fault"), (answered.len(), Progress::Going));
        assert!(!self.lanes.client.bytes(answered).is_empty());
        self.lanes.client.clear();
        assert!(self.session.may_leave());
    }
}
