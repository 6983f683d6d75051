//! Fires attacks at a target, and judges each by what came of it: what the attacker received, what is in the victim's tables
//! and in the catalogs, and how honest work goes on.

use std::time::Duration;

use pgcordon_tests::wire::{Url, Wire, bind, execute, extended, parse, query, sync};

use crate::corpus::{Attack, Proof, Step};
use crate::ledger::{Effect, Ledger};
use crate::line::{Heard, Line};
use crate::target::Target;

/// What an attacker knows of the victim, and of himself.
pub(crate) struct Known {
    pub(crate) theirs: String,
    pub(crate) own: String,
    pub(crate) row: String,
    pub(crate) journey: String,
    pub(crate) role: &'static str,
    pub(crate) database: String,
    /// The victim's user name.
    pub(crate) key: String,
    /// The attacker's own, and its secret.
    pub(crate) user: String,
    pub(crate) secret: String,
    /// What the attacker's session and the victim's were told at their start.
    pub(crate) pid: i32,
    pub(crate) cancel_secret: Vec<u8>,
    pub(crate) victim_pid: i32,
    /// A process of Postgres' that serves tenants.
    pub(crate) server_pid: i32,
}

impl Known {
    fn fill(&self, text: &str) -> String {
        text.replace("{theirs}", &self.theirs)
            .replace("{theirs32}", &self.theirs.replace('-', ""))
            .replace("{own}", &self.own)
            .replace("{row}", &self.row)
            .replace("{journey}", &self.journey)
            .replace("{role}", self.role)
            .replace("{key}", &self.key)
            .replace("{pid}", &self.server_pid.to_string())
    }
}

/// In what manner the texts of an attack are sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Manner {
    Simple,
    Extended,
}

/// A target with a victim on it.
pub(crate) struct Range {
    pub(crate) target: Target,
    is_one: bool,
    marker: String,
    known: Known,
    ledger: Ledger,
    victim: Line,
    honest: String,
}

const ROW: &str = "00000000-0000-4000-8000-0000000000aa";
const JOURNEY: &str = "00000000-0000-4000-8000-0000000000bb";

impl Range {
    pub(crate) fn new(target: Target, is_one: bool) -> Self {
        let [own, theirs] = target.workspaces();
        let mut admin = target.admin();
        // Nobody has this word in a text before it is sent back.
        let marker = format!("canary-{}", &admin.value("select md5(random()::text)")[..16]);
        let plant = format!(
            "insert into \"Secret\" (id, \"workspaceId\", name, value) values ('{ROW}', '{theirs}', 'known', '{marker}'); \
             insert into \"Secret\" (\"workspaceId\", name, value) select '{theirs}', '{marker}' || n, '{marker}' from generate_series(1, 20) n; \
             insert into \"Journey\" (id, \"workspaceId\", name) values ('{JOURNEY}', '{theirs}', '{marker}'); \
             insert into \"JourneyStep\" (\"journeyId\", position, kind) values ('{JOURNEY}', 1, '{marker}'); \
             insert into \"Segment\" (\"workspaceId\", name) values ('{theirs}', '{marker}'); \
             insert into \"UserProperty\" (\"workspaceId\", name, \"exampleValue\") values ('{theirs}', '{marker}', '{marker}'); \
             insert into \"Integration\" (\"workspaceId\", name) values ('{theirs}', '{marker}'); \
             update \"Workspace\" set domain = '{marker}' where id = '{theirs}'; \
             update \"EmailProvider\" set \"apiKey\" = '{marker}' where \"workspaceId\" = '{theirs}'; \
             create statistics public.of_secrets (mcv) on name, value from \"Secret\"; create statistics public.of_upper on (upper(value)) from \"Secret\"; \
             do $$ declare l oid := lo_from_bytea(0, '{marker}'); begin execute format('alter large object %s owner to {}', l); end $$; \
             analyze",
            target.role(),
        );
        let broken = std::env::var("CORDON_BREAK").unwrap_or_default();
        for sql in [plant, broken] {
            let answer = admin.query(&sql);
            assert!(!answer.contains("E("), "{sql}: {answer}");
        }
        let ledger = Ledger::new(admin, target.workspaces(), target.binds());
        let (attacker, victim) = (Url::parse(&target.acme()), Url::parse(&target.globex()));
        let known = Known {
            theirs,
            own,
            row: ROW.to_owned(),
            journey: JOURNEY.to_owned(),
            role: target.role(),
            database: attacker.database,
            key: victim.user,
            user: attacker.user,
            secret: attacker.password,
            pid: 0,
            cancel_secret: Vec::new(),
            victim_pid: 0,
            server_pid: 0,
        };
        let victim = Line::new(Wire::open(&target.globex()));
        let mut range = Self { is_one, marker, known, ledger, victim, honest: String::new(), target };
        range.victim_begins();
        range.honest = range.work(false).expect("honest work passes");
        assert!(range.honest.contains(&range.marker) && !range.honest.contains("E("), "{}", range.honest);
        range.ledger.renew();
        range
    }

    /// What the victim does all the time. Its answers are the same each time, unless somebody is in its way.
    fn honest_work(&self) -> Vec<u8> {
        let text = format!(
            "begin; set local lock_timeout = '1s'; {} select name, value from \"Secret\" where value = '{marker}' order by name; \
             insert into \"Secret\" (name, value) values ('honest-work', 'x') returning name; insert into \"Segment\" (name) values ('honest-work') returning name; \
             insert into \"JourneyStep\" (\"journeyId\", position, kind) values ('{JOURNEY}', 500, 'honest'); insert into \"Broadcast\" (name) values ('honest'); \
             update \"Secret\" set value = upper(value) where name = 'known' returning name; delete from \"Segment\" where name = 'honest-work'; \
             select lower('Honest'), count(*), current_setting('search_path'), current_user, '1.5'::numeric = 1.5, '2001-02-03'::date from \"Segment\"; rollback",
            self.says(&self.known.theirs, true),
            marker = self.marker,
        );
        let mut bytes = query(&text);
        // PgBouncer of before 1.21 knows no statements in transaction mode.
        if self.target.binds() {
            bytes.extend([bind("", "honest", &[]), execute("", 0), sync()].concat());
        }
        bytes
    }

    fn cycles_of_work(&self) -> usize {
        if self.target.binds() { 2 } else { 1 }
    }

    /// The application's word for a workspace, where it has to say it.
    fn says(&self, workspace: &str, local: bool) -> String {
        if self.target.binds() {
            return String::new();
        }
        format!("select set_config('app.workspace_id', '{workspace}', {local});")
    }

    fn victim_begins(&mut self) {
        self.known.victim_pid = self.victim.wire.key.0;
        if self.target.binds() {
            let text = format!("select '{}', count(*) from \"Secret\" where value = '{0}'", self.marker);
            self.victim.wire.send(&[parse("honest", &text), sync()].concat());
            self.victim.cycles(1, false);
        }
    }

    /// The victim works; what it was told, if that is all.
    fn work(&mut self, at_a_glance: bool) -> Result<String, String> {
        let bytes = self.honest_work();
        self.victim.wire.send(&bytes);
        match self.victim.cycles(self.cycles_of_work(), at_a_glance) {
            (answer, 0) => Ok(answer),
            (answer, _) => Err(answer),
        }
    }

    fn attacker(&mut self, parameters: &[(&str, &str)]) -> Option<Line> {
        // Whoever alters the upstream role has one login refused with 57P03 while that is repaired.
        let wire = Wire::try_open(&self.target.acme(), parameters).or_else(|refused| {
            if refused.field(b'C').as_deref() == Some("57P03") { Ok(again(&self.target.acme())) } else { Err(refused) }
        });
        let wire = wire.ok()?;
        self.known.pid = wire.key.0;
        self.known.cancel_secret.clone_from(&wire.key.1);
        let mut line = Line::new(wire);
        let says = self.says(&self.known.own, false);
        if !says.is_empty() {
            line.wire.send(&query(&says));
            line.cycles(1, false);
        }
        Some(line)
    }

    /// One attack, and what came of it.
    pub(crate) fn fire(&mut self, attack: &Attack, manner: Manner) -> Vec<Effect> {
        let processes =
            format!("select coalesce(min(pid), 0) from pg_stat_activity where usename = '{}'", self.known.role);
        self.known.server_pid = self.ledger.admin.value(&processes).parse().unwrap();
        let mut shot = Shot::default();
        let mut attacker =
            self.attacker(&[]).unwrap_or_else(|| panic!("the attacker isn't let in before: {}", attack.name));
        for step in attack.steps {
            if attacker.is_over() {
                attacker.wire.hang_up();
                shot.keep(&mut attacker);
                attacker =
                    self.attacker(&[]).unwrap_or_else(|| panic!("the attacker isn't let in within: {}", attack.name));
            }
            attacker = self.take(*step, manner, attacker, &mut shot);
        }
        if !self.is_one {
            self.witness(&mut shot);
        }
        attacker.wire.hang_up();
        shot.keep(&mut attacker);
        self.witness(&mut shot);
        self.judge(attack, shot)
    }

    fn take(&mut self, step: Step, manner: Manner, mut attacker: Line, shot: &mut Shot) -> Line {
        match step {
            Step::Sql(text) => {
                let text = self.known.fill(text);
                attacker.wire.send(&if manner == Manner::Simple { query(&text) } else { extended(&text, &[]) });
                if attacker.cycles(1, false).1 > 0 {
                    attacker.wire.hang_up();
                    while !matches!(attacker.next(Duration::from_millis(50)), Heard::End) {}
                }
            }
            Step::Bytes(make) => {
                attacker.wire.send(&make(&self.known));
                attacker.exhaust();
            }
            Step::Half(make) => {
                attacker.wire.send(&make(&self.known));
                attacker.wire.hang_up();
                shot.keep(&mut attacker);
                return self.attacker(&[]).expect("the attacker has a key");
            }
            Step::Again => {
                attacker.wire.hang_up();
                shot.keep(&mut attacker);
                return self.attacker(&[]).expect("the attacker has a key");
            }
            Step::Start(parameters) => {
                let filled: Vec<_> = parameters.iter().map(|(name, value)| (*name, self.known.fill(value))).collect();
                let parameters: Vec<_> = filled.iter().map(|(name, value)| (*name, value.as_str())).collect();
                if let Some(fresh) = self.attacker(&parameters) {
                    attacker.wire.hang_up();
                    shot.keep(&mut attacker);
                    return fresh;
                }
            }
            Step::Door(make) => {
                self.revive(shot);
                let (host, port) = self.target.address();
                let mut door = Line::new(Wire::raw((&host, port)));
                door.wire.send(&make(&self.known));
                door.wire.stream().shutdown(std::net::Shutdown::Write).unwrap_or_default();
                while let Heard::Message(_) = door.next(Duration::from_millis(300)) {}
                shot.door(&mut door);
            }
            Step::Victim => self.glance(shot),
            Step::Update => {
                let says = self.says(&self.known.theirs, true);
                let mut victim = again(&self.target.globex());
                victim.query(&format!("begin; {says} update \"Secret\" set value = value where id = '{ROW}'; commit"));
            }
            Step::Counted => drop(self.ledger.admin.query("vacuum analyze")),
            Step::Busy => {
                let mut line = Line::new(again(&self.target.globex()));
                line.wire.send(&query("select pg_sleep(0.15), 'unharmed'"));
                self.known.victim_pid = line.wire.key.0;
                shot.busy = Some(line);
            }
        }
        attacker
    }

    /// The victim works in between. With one connection it may have to wait until the attacker is gone.
    fn glance(&mut self, shot: &mut Shot) {
        if shot.owed > 0 {
            return;
        }
        let bytes = self.honest_work();
        self.victim.wire.send(&bytes);
        let (said, owed) = self.victim.cycles(self.cycles_of_work(), self.is_one);
        (shot.said, shot.owed) = (said, owed);
        if owed == 0 || !self.is_one {
            self.believe(shot);
        }
    }

    /// Compares what the victim was told with what it is told on an honest day.
    fn believe(&mut self, shot: &mut Shot) {
        if shot.said != self.honest {
            shot.effects.push(Effect::Harmed(shorten(&shot.said)));
        }
        // After an error it would go on in a failed transaction.
        if shot.owed > 0 || shot.said != self.honest {
            self.victim.wire.hang_up();
            self.victim = Line::new(again(&self.target.globex()));
            self.victim_begins();
        }
        shot.owed = 0;
    }

    fn revive(&mut self, shot: &mut Shot) {
        if self.target.revive() {
            shot.effects.push(Effect::Harmed("the proxy has died".to_owned()));
        }
    }

    /// Honest work, the victim's and what it had on its way.
    fn witness(&mut self, shot: &mut Shot) {
        self.revive(shot);
        if shot.owed > 0 {
            let (more, owed) = self.victim.cycles(shot.owed, false);
            shot.said = format!("{} {more}", shot.said.trim_end_matches("silence").trim()).trim().to_owned();
            shot.owed = owed;
            self.believe(shot);
        }
        if let Some(mut busy) = shot.busy.take() {
            let (said, _) = busy.cycles(1, false);
            if said != "T D(|unharmed) C(SELECT 1) Z(I)" {
                shot.effects.push(Effect::Harmed(shorten(&said)));
            }
        }
        let bytes = self.honest_work();
        self.victim.wire.send(&bytes);
        (shot.said, shot.owed) = self.victim.cycles(self.cycles_of_work(), false);
        self.believe(shot);
    }

    fn judge(&mut self, attack: &Attack, mut shot: Shot) -> Vec<Effect> {
        let hex: String = self.marker.bytes().map(|byte| format!("{byte:02x}")).collect();
        let (seen, messages) = (shot.received.to_ascii_lowercase(), Line::messages(&shot.received, 0));
        let seen = String::from_utf8_lossy(&seen);
        if seen.contains(&self.marker) || seen.contains(&hex) {
            shot.effects.push(Effect::Read);
        }
        let learnt = shot.let_in
            || messages.iter().any(|message| match attack.proof {
                Proof::Marker => false,
                Proof::Row(part) => message.tag == b'D' && message.word().contains(part),
                Proof::Hit => {
                    message.word() == "D(hit)"
                        || message.tag == b'N' && message.field(b'M').is_some_and(|text| text == "hit")
                }
                Proof::Code(code) => message.tag == b'E' && message.field(b'C').is_some_and(|found| found == code),
            });
        if learnt {
            shot.effects.push(Effect::Learnt);
        }
        let touched = self.ledger.compare(&mut shot.effects);
        self.clean(&touched, !shot.effects.is_empty());
        shot.effects.sort();
        shot.effects.dedup();
        shot.effects
    }

    /// Makes the place as it was.
    fn clean(&mut self, touched: &[String], harmed: bool) {
        self.ledger.restore(touched);
        if !harmed && self.target.binds() {
            return;
        }
        self.ledger.admin.query(&self.target.undo());
        if harmed && !self.target.binds() {
            // What was left on its connections would be found by the next attack.
            let end = format!(
                "select count(pg_terminate_backend(pid, 5000)) from pg_stat_activity where usename = '{}'",
                self.known.role
            );
            self.ledger.admin.query(&end);
            self.victim.wire.hang_up();
            self.victim = Line::new(again(&self.target.globex()));
            self.victim_begins();
        }
        self.ledger.renew();
    }

    /// What the proxy says each workspace uses, beside what is there.
    pub(crate) fn books(&mut self) -> Vec<(u64, u64)> {
        let workspaces = self.target.workspaces();
        let mut books = Vec::new();
        for workspace in workspaces {
            let there = self
                .ledger
                .admin
                .value(&format!("select count(*) from \"Segment\" where \"workspaceId\" = '{workspace}'"));
            books.extend(self.target.usage(&workspace).map(|used| (used, there.parse().unwrap())));
        }
        books
    }
}

/// One attack while it goes on.
#[derive(Default)]
struct Shot {
    /// All that the attacker's sessions received.
    received: Vec<u8>,
    /// Whether somebody was let in at the door.
    let_in: bool,
    /// A session of the victim's that has a statement on its way.
    busy: Option<Line>,
    effects: Vec<Effect>,
    /// What the victim was told so far, and how many cycles of it are owed.
    said: String,
    owed: usize,
}

impl Shot {
    fn keep(&mut self, line: &mut Line) {
        while let Heard::Message(_) = line.next(Duration::from_millis(20)) {}
        self.received.append(&mut line.wire.received);
    }

    /// What came of a connection on which nobody was to be let in. Single bytes may stand in front of it.
    fn door(&mut self, door: &mut Line) {
        let bytes = std::mem::take(&mut door.wire.received);
        let begins = bytes.iter().position(|byte| !matches!(byte, b'N' | b'S')).unwrap_or(bytes.len());
        self.let_in |= Line::messages(&bytes[begins..], 0).iter().any(|message| message.tag == b'Z');
        self.received.extend_from_slice(&bytes[begins..]);
    }
}

/// A session, as soon as there can be one again; within a minute, or the proxy is gone.
fn again(url: &str) -> Wire {
    let come = (0..6000).find_map(|_| {
        let wire = Wire::try_open_quietly(url).ok();
        if wire.is_none() {
            std::thread::sleep(Duration::from_millis(10));
        }
        wire
    });
    come.expect("somebody is let in again")
}

fn shorten(said: &str) -> String {
    let words: Vec<&str> =
        said.split(' ').filter(|word| word.starts_with("E(") || *word == "silence" || *word == "EOF").collect();
    if words.is_empty() { "other answers than ever".to_owned() } else { words.join(" ") }
}
