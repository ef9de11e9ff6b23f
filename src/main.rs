//! Arguments, one command, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    reelhook::cli::main()
}
