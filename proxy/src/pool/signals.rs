//! What is asked of the control connection about server processes: to terminate one, and which of them wait for whose locks. The
//! pool and the watch ask; who answers has a connection of another role and a thread of its own.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

/// Questions that wait to be answered, at most. One more is answered as if nobody knew.
const QUESTIONS_MAX: usize = 256;

/// What became of a process that was to be terminated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terminated {
    /// It was sent the signal.
    Signalled,
    /// There is no such process.
    Gone,
    /// The control role may not do that.
    NotAllowed,
    /// Nobody could be asked.
    Unknown,
}

/// A process that waits for a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockWait {
    /// The process.
    pub pid: i32,
    /// For how long.
    pub waited: Duration,
    /// Processes that hold, or wait in front of it for, a lock on the same table that no other process could have beside a
    /// write, and so keep it waiting.
    pub table_lockers: Vec<i32>,
}

/// A question, and where its answer goes.
#[derive(Debug)]
pub enum Question {
    /// Terminate this process of this role.
    Terminate {
        /// The process.
        pid: i32,
        /// Its role: a number may be another process' by now.
        role: Arc<str>,
        /// What became of it.
        answer: oneshot::Sender<Terminated>,
    },
    /// Which of these processes wait for locks?
    Locks {
        /// The processes.
        pids: Vec<i32>,
        /// Those that wait.
        answer: oneshot::Sender<Vec<LockWait>>,
    },
}

/// Where questions go.
#[derive(Clone, Debug)]
pub struct Signals {
    questions: mpsc::Sender<Question>,
}

impl Signals {
    /// A handle, and the end at which the questions arrive.
    pub fn new() -> (Self, mpsc::Receiver<Question>) {
        let (questions, asked) = mpsc::channel(QUESTIONS_MAX);
        (Self { questions }, asked)
    }

    /// Terminates a process of a role.
    pub async fn terminate(&self, pid: i32, role: &Arc<str>) -> Terminated {
        let (answer, answered) = oneshot::channel();
        let question = Question::Terminate { pid, role: role.clone(), answer };
        if self.questions.try_send(question).is_err() {
            return Terminated::Unknown;
        }
        answered.await.unwrap_or(Terminated::Unknown)
    }

    /// Which of these processes wait for locks. None if nobody knows.
    pub async fn locks(&self, pids: Vec<i32>) -> Vec<LockWait> {
        let (answer, answered) = oneshot::channel();
        if self.questions.try_send(Question::Locks { pids, answer }).is_err() {
            return Vec::new();
        }
        answered.await.unwrap_or_default()
    }
}
