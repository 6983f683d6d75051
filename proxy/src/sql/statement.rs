//! One statement of a query string: what it is, what it reads, calls and writes, as far as its text tells.

/// One statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// What it is.
    pub kind: StatementKind,
    /// What it writes, data-modifying CTEs and nested statements included.
    pub writes: Vec<Write>,
    /// What it reads, each once. What it writes isn't in it unless it is read as well.
    pub reads: Vec<Relation>,
    /// The functions it calls, each once.
    pub functions: Vec<FunctionName>,
    /// The operators it uses, each once, without their schema.
    pub operators: Vec<Box<str>>,
    /// What stands behind a dot, each once: `row.name` is a column, or else a call of `name(row)`.
    pub attributes: Vec<Box<str>>,
    /// It locks the rows it reads (FOR UPDATE, FOR SHARE, …).
    pub locks_rows: bool,
    /// A constant in it may be read as something else at another time, 'now' as a time for example: what was prepared before
    /// isn't what would be prepared now.
    pub is_of_moment: bool,
    /// With other constants in it something else might be to be told of it.
    pub heeds_constants: bool,
    /// It may do what isn't visible in its text: EXECUTE, CALL, DO, FETCH, and whatever isn't looked into.
    pub hidden: bool,
}

/// What a statement is. Those that bring the same CommandComplete tag may be of different kinds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatementKind {
    /// SELECT, VALUES, TABLE; with data-modifying CTEs too.
    Select,
    /// INSERT.
    Insert,
    /// UPDATE.
    Update,
    /// DELETE.
    Delete,
    /// MERGE.
    Merge,
    /// COPY … FROM, wherever the data comes from.
    CopyIn,
    /// COPY … TO.
    CopyOut,
    /// BEGIN, START TRANSACTION.
    Begin,
    /// COMMIT, END.
    Commit {
        /// AND CHAIN: the next transaction begins at once.
        chain: bool,
    },
    /// ROLLBACK, ABORT.
    Rollback {
        /// AND CHAIN: the next transaction begins at once.
        chain: bool,
    },
    /// SAVEPOINT, with its name.
    Savepoint(Box<str>),
    /// RELEASE, with the savepoint's name.
    Release(Box<str>),
    /// ROLLBACK TO, with the savepoint's name.
    RollbackTo(Box<str>),
    /// PREPARE TRANSACTION.
    PrepareTransaction,
    /// CALL of a procedure, which may end transactions.
    Call,
    /// DO, which may end transactions.
    Do,
    /// TRUNCATE.
    Truncate,
    /// What makes, alters or drops objects and rights; CREATE TABLE AS and SELECT INTO too.
    Ddl,
    /// What concerns the session alone: SET, SHOW, RESET, DISCARD, LISTEN, UNLISTEN, NOTIFY.
    Session,
    /// DEALLOCATE, with the statement's name; none stands for all.
    Deallocate(Option<Box<str>>),
    /// EXPLAIN; only with ANALYZE does it what its statement does.
    Explain,
    /// PREPARE, with the statement's name. `writes` is what an EXECUTE would write.
    Prepare(Box<str>),
    /// EXECUTE, with the statement's name.
    Execute(Box<str>),
    /// DECLARE, FETCH, MOVE and CLOSE.
    Cursor,
    /// All else.
    Other,
    /// Not a statement, but a text that wasn't understood: it may be any number of them, and Postgres may refuse it.
    Unknown,
}

/// A table, view or the like, as the text names it: quoted names as they are, others in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Relation {
    /// The schema, where it is named.
    pub schema: Option<Box<str>>,
    /// The name.
    pub name: Box<str>,
}

/// A function as the text names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FunctionName {
    /// The schema, where it is named.
    pub schema: Option<Box<str>>,
    /// The name.
    pub name: Box<str>,
}

/// One relation that a statement writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Where to.
    pub relation: Relation,
    /// How.
    pub verb: WriteVerb,
    /// How many rows it adds at most.
    pub rows: RowBound,
    /// INSERT … ON CONFLICT: it may add fewer.
    pub upsert: bool,
    /// INSERT … RETURNING: the client is told what it added.
    pub returns: bool,
}

/// How a relation is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WriteVerb {
    /// INSERT.
    Insert,
    /// UPDATE.
    Update,
    /// DELETE.
    Delete,
    /// MERGE.
    Merge,
    /// COPY … FROM.
    Copy,
    /// TRUNCATE.
    Truncate,
}

/// How many rows a statement adds to a relation itself; its triggers, rules and functions are not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowBound {
    /// At most so many.
    AtMost(u64),
    /// Any number.
    Unknown,
}

impl Statement {
    /// A statement that does nothing but be of its kind.
    pub(super) const fn new(kind: StatementKind) -> Self {
        Self {
            kind,
            writes: Vec::new(),
            reads: Vec::new(),
            functions: Vec::new(),
            operators: Vec::new(),
            attributes: Vec::new(),
            locks_rows: false,
            is_of_moment: false,
            heeds_constants: false,
            hidden: false,
        }
    }

    /// A statement that wasn't understood.
    pub(super) fn unknown() -> Self {
        Self { hidden: true, ..Self::new(StatementKind::Unknown) }
    }

    /// Whether it concerns the session alone, and calls nothing.
    pub fn is_of_session(&self) -> bool {
        let is_quiet = !self.hidden && self.functions.is_empty() && self.writes.is_empty();
        is_quiet && matches!(self.kind, StatementKind::Session | StatementKind::Deallocate(_))
    }

    /// Whether its own text may change what names stand for. What functions and procedures do isn't looked for.
    pub const fn may_alter(&self) -> bool {
        matches!(self.kind, StatementKind::Ddl | StatementKind::Do | StatementKind::Other | StatementKind::Unknown)
    }

    /// Whether its own CommandComplete tells all that a session needs to know of it.
    pub(super) fn is_trivial(&self) -> bool {
        let own_tag = matches!(
            self.kind,
            StatementKind::Select
                | StatementKind::Begin
                | StatementKind::Commit { chain: false }
                | StatementKind::Rollback { chain: false }
                | StatementKind::Session
        );
        own_tag && self.writes.is_empty()
    }

    /// About how many bytes of memory it takes.
    pub(super) fn weight(&self) -> usize {
        let names =
            self.writes.len() + self.reads.len() + self.functions.len() + self.operators.len() + self.attributes.len();
        size_of::<Self>() + names * 96
    }
}

impl WriteVerb {
    /// Whether it can add rows.
    pub const fn adds_rows(self) -> bool {
        matches!(self, Self::Insert | Self::Merge | Self::Copy)
    }

    /// A word for logs and the audit trail.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Merge => "merge",
            Self::Copy => "copy",
            Self::Truncate => "truncate",
        }
    }
}

impl std::fmt::Display for Relation {
    /// `schema.name`, or the name alone.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.schema {
            Some(schema) => write!(out, "{schema}.{}", self.name),
            None => out.write_str(&self.name),
        }
    }
}
