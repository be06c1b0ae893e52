//! The command `vitrine`: a shop's search, recommendations, feedback and goods from a terminal.

mod arguments;
mod command;
mod contact_sheet;
mod exit;
mod output;
mod picture;

use std::process::ExitCode;

use clap::Parser as _;

use crate::arguments::Cli;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // When even the usage text cannot be printed there is nobody to tell.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(exit::USAGE));
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return exit::report(&error.into()),
    };
    match runtime.block_on(command::run(cli)) {
        Ok(code) => ExitCode::from(code),
        Err(error) => exit::report(&error),
    }
}
