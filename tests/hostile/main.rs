//! The attack corpus, a file per family.
