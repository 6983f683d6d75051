//! The `pgcordon` program: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    pgcordon::cli::main()
}
