//! Deciding about rows of which the books alone aren't sure: the truth is counted, and those who may give something back
//! are waited for, both within a bound. Whoever waits here holds a reservation at most, never a lock.

use std::time::Duration;

use super::accounts::{Accounts, Key, Usage};
use super::bell::Ear;
use super::escrow::{Ask, Verdict};
use super::resource::{Definitions, ResourceId};
use super::verdict::{Exceeded, Refusal};
use crate::domain::WorkspaceId;
use crate::domain::clock::{self, Instant};

impl Accounts {
    /// Reserves rows, or says for certain that they don't fit. `own` is what the same transaction has reserved of this
    /// resource already: it isn't waited for. Granted rows are the caller's to settle, release or doubt; a future that is
    /// dropped has reserved nothing.
    ///
    /// # Errors
    /// They don't fit, or it can't be found out.
    pub async fn reserve(
        &self,
        workspace: WorkspaceId,
        resource: ResourceId,
        rows: u64,
        own: u64,
    ) -> Result<(), Refusal> {
        let key = (workspace, resource);
        let need = self.with(key, |slot| slot.account.next_count());
        let mut question = Question { accounts: self, key, ask: Ask { rows, own, need }, waits: false };
        let refusal = match question.decided().await {
            Verdict::Exceeded { used, reserved, limit } => {
                self.tallies().note(resource, |tally| tally.refusals += 1);
                let resets_at = self.with(key, |slot| slot.account.window()).map(super::window::Window::resets_at);
                Refusal::Exceeded(Exceeded {
                    resource: self.name(resource),
                    used,
                    reserved,
                    limit,
                    requested: rows,
                    resets_at,
                })
            }
            Verdict::Undecided(why) => {
                self.tallies().note(resource, |tally| tally.undecided += 1);
                Refusal::Undecided { resource: self.name(resource), why }
            }
            _ => return Ok(()),
        };
        Err(refusal)
    }

    /// Whether rows would fit, as exactly as [`Self::reserve`] says it. Nothing is reserved.
    ///
    /// # Errors
    /// They don't fit, or it can't be found out.
    pub async fn validate(&self, workspace: WorkspaceId, resource: ResourceId, rows: u64) -> Result<(), Refusal> {
        self.reserve(workspace, resource, rows, 0).await?;
        self.release(workspace, resource, rows);
        Ok(())
    }

    /// What a workspace uses, counted where it isn't known exactly.
    ///
    /// # Errors
    /// The truth can't be counted.
    pub async fn counted_usage(&self, workspace: WorkspaceId) -> Result<Vec<Usage>, Refusal> {
        let resources: Vec<ResourceId> = self.definitions().resources().iter().map(|resource| resource.id).collect();
        for resource in resources {
            if !self.with((workspace, resource), |slot| slot.account.is_exact()) {
                self.recount(workspace, resource).await?;
            }
        }
        Ok(self.usage(workspace))
    }

    /// Counts the truth now.
    ///
    /// # Errors
    /// It can't be counted.
    pub async fn recount(&self, workspace: WorkspaceId, resource: ResourceId) -> Result<(), Refusal> {
        let key = (workspace, resource);
        let need = self.with(key, |slot| slot.account.next_count());
        let deadline = clock::now() + self.settings.count_timeout();
        loop {
            let mut listening = Listening::to(self, key);
            let (arrived, failure) =
                self.with(key, |slot| (slot.account.arrived() >= need, slot.account.failure(need).map(str::to_owned)));
            let why = match (arrived, failure) {
                (true, _) => return Ok(()),
                (false, Some(why)) => why,
                (false, None) => {
                    self.wish(key);
                    if listening.until(deadline).await {
                        continue;
                    }
                    LATE.to_owned()
                }
            };
            return Err(Refusal::Undecided { resource: self.name(resource), why });
        }
    }
}

impl Accounts {
    /// Waits until the definitions are so. Whether they were in time.
    pub async fn defined(&self, are_so: impl Fn(&Definitions) -> bool, bound: Duration) -> bool {
        let wait = async {
            loop {
                let mut ear = self.hear_definitions();
                if are_so(&self.definitions()) {
                    return;
                }
                ear.heard().await;
            }
        };
        tokio::time::timeout(bound, wait).await.is_ok()
    }
}

/// What the log reads when a count takes too long.
const LATE: &str = "the rows couldn't be counted in time";

/// One question, until it is decided.
struct Question<'a> {
    accounts: &'a Accounts,
    key: Key,
    ask: Ask,
    /// Whether the account knows that this one waits for others.
    waits: bool,
}

impl Question<'_> {
    async fn decided(&mut self) -> Verdict {
        let settings = &self.accounts.settings;
        let end = clock::now() + settings.count_timeout() + settings.wait_timeout();
        // Patience with others begins when they are all there is to wait for.
        let mut patience: Option<Instant> = None;
        loop {
            let mut listening = Listening::to(self.accounts, self.key);
            let now = clock::now();
            let verdict = self.ask(patience.is_some_and(|patience| patience <= now));
            let until = match &verdict {
                Verdict::Count { need } => {
                    self.ask.need = *need;
                    self.accounts.wish(self.key);
                    end
                }
                Verdict::Wait => *patience.get_or_insert(now + settings.wait_timeout()),
                _ => return verdict,
            };
            if !listening.until(until).await && end <= clock::now() {
                return Verdict::Undecided(LATE.to_owned());
            }
        }
    }

    fn ask(&mut self, late: bool) -> Verdict {
        let (ask, waited) = (self.ask, self.waits);
        let verdict = self.accounts.with(self.key, |slot| {
            if waited {
                slot.account.wait_ends(ask.own);
            }
            let verdict = slot.account.decide(ask, late);
            if verdict == Verdict::Wait {
                slot.account.wait_begins(ask.own);
            }
            verdict
        });
        self.waits = verdict == Verdict::Wait;
        verdict
    }
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        if self.waits {
            self.accounts.with(self.key, |slot| slot.account.wait_ends(self.ask.own));
        }
    }
}

/// Hears of an account's changes until it is dropped.
struct Listening<'a> {
    accounts: &'a Accounts,
    key: Key,
    ear: Ear,
}

impl<'a> Listening<'a> {
    fn to(accounts: &'a Accounts, key: Key) -> Self {
        Self { accounts, key, ear: accounts.with(key, super::accounts::Slot::listen) }
    }

    /// Waits for a change. Whether there was one in time.
    async fn until(&mut self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(clock::now()).max(Duration::from_millis(1));
        tokio::time::timeout(left, self.ear.heard()).await.is_ok()
    }
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        self.accounts.with(self.key, super::accounts::Slot::stop_listening);
    }
}
