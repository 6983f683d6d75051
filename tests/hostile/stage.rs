//! The attacker, the victim, and the canary.

use pgcordon_tests::dev::Dev;
use pgcordon_tests::wire::Wire;

/// What stands in the victim's rows, and must never come back to the attacker.
const CANARY: &str = "canary-of-globex";

/// One attack on one pool size.
pub(crate) struct Stage {
    pub(crate) dev: Dev,
    pub(crate) attacker: Wire,
    pub(crate) pool_size: usize,
    victim: Wire,
    before: Vec<String>,
}

impl Stage {
    fn new(pool_size: usize, guard: bool) -> Self {
        // Its own: what an attacker holds on the only connection of a pool keeps everybody waiting, other tests too.
        let size = pool_size.to_string();
        let options = ["--pool-size", &size, "--no-guard"];
        let dev = Dev::start(if guard { &options[..2] } else { &options });
        let mut victim = Wire::open(dev.globex());
        victim.query(&format!(
            "insert into \"Secret\" (name, value) values ('{CANARY}', '{CANARY}') on conflict do nothing"
        ));
        let before = state(&mut victim);
        assert!(before.iter().any(|line| line.contains(CANARY)), "the canary is there");
        Self { attacker: Wire::open(dev.acme()), pool_size, victim, before, dev }
    }

    /// The victim works, on whatever the attacker left.
    pub(crate) fn victim(&mut self) -> &mut Wire {
        &mut self.victim
    }

    /// Runs SQL as the attacker, whatever comes of it; the session is renewed if it ended.
    pub(crate) fn attempt(&mut self, sql: &str) -> String {
        let answer = self.attacker.query(sql);
        if answer.ends_with("EOF") {
            self.renew();
        }
        answer
    }

    /// A new session of the attacker. What the old one received is looked at first.
    pub(crate) fn renew(&mut self) {
        self.check_received();
        self.attacker = Wire::open(self.dev.acme());
    }

    fn check_received(&self) {
        let seen = self.attacker.received.windows(CANARY.len()).any(|part| part == CANARY.as_bytes());
        assert!(!seen, "the attacker saw the canary");
    }

    fn end(mut self) {
        self.check_received();
        self.attacker.hang_up();
        assert_eq!(state(&mut self.victim), self.before, "the victim's rows have changed");
        let mut fresh = Wire::open(self.dev.globex());
        assert_eq!(state(&mut fresh), self.before, "a new session of the victim sees something else");
    }
}

/// Everything the victim has, as it sees it.
fn state(victim: &mut Wire) -> Vec<String> {
    let mut all = Vec::new();
    for table in ["Segment", "Journey", "Secret", "UserProperty", "WriteKey", "Workspace"] {
        all.push(victim.value(&format!(
            "select count(*) || coalesce(md5(string_agg(t::text, ',' order by t::text)), '') from \"{table}\" t"
        )));
    }
    all.extend(victim.rows("select name, value from \"Secret\" order by name, value"));
    all
}

/// Runs an attack on one server connection and on many, with the statement guard and without it: it is no wall.
pub(crate) fn on_one_and_on_many(attack: impl Fn(&mut Stage)) {
    for (pool_size, guard) in [(1, false), (1, true), (8, false)] {
        let mut stage = Stage::new(pool_size, guard);
        attack(&mut stage);
        stage.end();
    }
}
