//! What a statement is and what it may leave behind.
