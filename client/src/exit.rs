//! What the command's exit code says, and how a failure is told.

use std::{fmt, io, process::ExitCode};

use vitrine_client::{Code, Error};

/// Everything was done.
pub const OK: u8 = 0;
/// A call failed for a reason that has no code of its own, or a file could not be read or written.
pub const FAILED: u8 = 1;
/// The command line is wrong.
pub const USAGE: u8 = 2;
/// Some lines or events were rejected; the others were taken.
pub const SOME_REJECTED: u8 = 3;
/// There is no such catalog, item, control, experiment, model or version.
pub const NOT_FOUND: u8 = 4;
/// No server answers, or it is not ready.
pub const UNAVAILABLE: u8 = 5;
/// The server was too busy or the time ran out: the same may work later.
pub const BUSY: u8 = 6;
/// With `experiments report --strict`: the figures are not to be believed, or a guard rail does not hold.
pub const UNSOUND: u8 = 7;

/// The table of exit codes in `vitrine --help`.
pub const HELP: &str = "\
Exit codes:
  0  done
  1  a call failed, or a file could not be read or written
  2  the command line is wrong
  3  some lines or events were rejected, the others were taken
  4  there is no such catalog, item, control, experiment, model or version
  5  no server answers, or it is not ready
  6  the server was too busy or the time ran out: try again later
  7  with experiments report --strict: shoppers are not shared out as they should be, or a guard rail is broken

With --json an answer is one JSON object: protobuf's canonical mapping, with the field
names of the .proto files. Lists are JSON Lines, one object a line, as the imports read them.";

/// A command line that clap could not refuse.
#[derive(Debug)]
pub struct Usage(pub String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Tells a failure on stderr: one line, and a line with what to do.
pub fn report(error: &anyhow::Error) -> ExitCode {
    // `vitrine … | head` is no failure.
    if error.chain().any(|e| e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)) {
        return ExitCode::from(OK);
    }
    let message = format!("{error:#}").replace('\n', " ");
    eprintln!("error: {message}");
    if let Some(hint) = error.downcast_ref::<Error>().and_then(Error::hint) {
        eprintln!("hint: {hint}");
    }
    ExitCode::from(code(error))
}

fn code(error: &anyhow::Error) -> u8 {
    if error.is::<Usage>() {
        return USAGE;
    }
    let Some(error) = error.downcast_ref::<Error>() else { return FAILED };
    match error.code() {
        Code::NotFound => NOT_FOUND,
        Code::Unavailable => UNAVAILABLE,
        Code::DeadlineExceeded | Code::ResourceExhausted => BUSY,
        _ if matches!(error, Error::Address { .. }) => USAGE,
        _ => FAILED,
    }
}
