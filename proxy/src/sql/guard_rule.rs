//! The rules of the statement guard, by name: what a tenant's text is watched for, and what of it a key is allowed.

use std::fmt;
use std::str::FromStr;

/// One rule. Its name is the one of `[guard]` in the configuration, of a key's allow-list and of the audit trail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// The settings that carry the context.
    Context,
    /// The schema cordon.
    ControlSchema,
    /// Another role.
    Role,
    /// Roles and databases.
    AlterRole,
    /// PREPARE TRANSACTION.
    TwoPhase,
    /// The setting row_security.
    RowSecurity,
    /// Objects of the application.
    Ddl,
    /// DO.
    Do,
    /// Functions that run a text.
    DynamicSql,
    /// Large objects.
    LargeObjects,
    /// Files and programs of the server.
    ServerFiles,
    /// Signals to other sessions and to the server.
    Signals,
    /// LOCK TABLE.
    LockTable,
    /// EXPLAIN with estimates or counts.
    Explain,
    /// LISTEN and NOTIFY.
    Channels,
}

impl Rule {
    /// All of them, in the order of the configuration.
    pub const ALL: [Self; 15] = [
        Self::Context,
        Self::ControlSchema,
        Self::Role,
        Self::AlterRole,
        Self::TwoPhase,
        Self::RowSecurity,
        Self::Ddl,
        Self::Do,
        Self::DynamicSql,
        Self::LargeObjects,
        Self::ServerFiles,
        Self::Signals,
        Self::LockTable,
        Self::Explain,
        Self::Channels,
    ];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Context => "context",
            Self::ControlSchema => "control_schema",
            Self::Role => "role",
            Self::AlterRole => "alter_role",
            Self::TwoPhase => "two_phase",
            Self::RowSecurity => "row_security",
            Self::Ddl => "ddl",
            Self::Do => "do",
            Self::DynamicSql => "dynamic_sql",
            Self::LargeObjects => "large_objects",
            Self::ServerFiles => "server_files",
            Self::Signals => "signals",
            Self::LockTable => "lock_table",
            Self::Explain => "explain",
            Self::Channels => "channels",
        }
    }
}

/// A name that no rule has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownRule(String);

impl fmt::Display for UnknownRule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known: Vec<&str> = Rule::ALL.iter().map(|rule| rule.as_str()).collect();
        write!(out, "there is no rule {:?}: the rules are {}", self.0, known.join(", "))
    }
}

impl std::error::Error for UnknownRule {}

impl FromStr for Rule {
    type Err = UnknownRule;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|rule| rule.as_str() == name).ok_or_else(|| UnknownRule(name.to_owned()))
    }
}

/// A set of rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules(u32);

impl Rules {
    /// Whether the rule is in it.
    pub const fn contains(self, rule: Rule) -> bool {
        self.0 & (1 << rule as u32) != 0
    }

    /// The rules in it, in the order of the configuration.
    pub fn iter(self) -> impl Iterator<Item = Rule> {
        Rule::ALL.into_iter().filter(move |rule| self.contains(*rule))
    }

    /// Their names.
    pub fn names(self) -> Vec<&'static str> {
        self.iter().map(Rule::as_str).collect()
    }

    /// The rules of these names.
    ///
    /// # Errors
    /// A name that no rule has.
    pub fn named<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, UnknownRule> {
        names.into_iter().map(str::parse).collect()
    }
}

impl FromIterator<Rule> for Rules {
    fn from_iter<T: IntoIterator<Item = Rule>>(rules: T) -> Self {
        Self(rules.into_iter().fold(0, |set, rule| set | 1 << rule as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_was_put_into_it_and_nothing_else() {
        for rule in Rule::ALL {
            assert_eq!(rule.as_str().parse(), Ok(rule));
            let set = Rules::from_iter([rule]);
            assert!(Rule::ALL.into_iter().all(|each| set.contains(each) == (each == rule)), "{rule:?}");
        }
        assert_eq!(Rules::named(["explain", "do"]).map(Rules::names), Ok(vec!["do", "explain"]));
        assert_eq!(Rules::named([]).map(Rules::names), Ok(vec![]));
    }

    #[test]
    fn an_unknown_rule_is_told_with_the_known_ones() {
        let told = Rules::named(["do", "doo"]).expect_err("unknown").to_string();
        assert!(told.contains("\"doo\"") && told.contains("do, dynamic_sql, large_objects"), "{told}");
    }
}
