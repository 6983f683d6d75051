//! The harness that the end-to-end and hostile suites share.
