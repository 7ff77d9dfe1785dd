//! How the program ends, by the numbers of `sysexits.h`.

use std::io::{self, Write};
use std::process::ExitCode;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It did what it was told.
    Done = 0,
    /// It ended before everything was answered, or the system failed it.
    Failed = 1,
    /// The command line is wrong.
    Usage = 64,
    /// The address cannot be listened on.
    Unavailable = 69,
    /// The configuration is wrong.
    Config = 78,
}

// === impl Exit ===

impl Exit {
    /// Ends the process here, without the destructors of libraries: those of libtorch crash a
    /// thread that still computes, and the process with it, so that the exit code would be lost.
    pub(super) fn now(self) -> ! {
        let _ = io::stdout().flush();
        // SAFETY: `_exit` has no preconditions. What it skips is only tidying up: standard output
        // is flushed above, and standard error has no buffer.
        unsafe { libc::_exit(i32::from(self as u8)) }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Writes text to the standard output. Whoever closed it does not want it.
pub(super) fn print(text: &str) -> Exit {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Exit::Done,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Done,
        Err(_) => Exit::Failed,
    }
}
