//! Every error a user can meet: what happened, why, and what to do about it.
//!
//! An error's [`Kind`] alone picks the exit code, so that the contract (DESIGN §3) is kept in one place. Programs act on its
//! [`Code`], which `autoharness explain` explains.

mod codes;

use std::fmt;
use std::panic::Location;

pub use codes::Code;

/// Success, or a gate that passed.
pub const EXIT_OK: i32 = 0;
/// The gate (or `record`, `verify`) said no: revert and try something else.
pub const EXIT_REJECTED: i32 = 1;
/// Usage or configuration error: the command or the configuration must change.
pub const EXIT_USAGE: i32 = 2;
/// Infrastructure: no evidence, nothing was decided. Do not revert.
pub const EXIT_INFRASTRUCTURE: i32 = 3;

/// What sort of failure this is; decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The gate, `record` or `verify` answered no.
    Rejected,
    /// Bad command line, configuration or state that the user must fix.
    Usage,
    /// The machine, the network or an upstream tool failed; nothing was decided.
    Infrastructure,
    /// A signal (its number) ended the command early.
    Interrupted(i32),
}

impl Kind {
    /// The process exit code for this kind.
    pub fn exit_code(self) -> i32 {
        match self {
            Kind::Rejected => EXIT_REJECTED,
            Kind::Usage => EXIT_USAGE,
            Kind::Infrastructure => EXIT_INFRASTRUCTURE,
            Kind::Interrupted(signal) => 128 + signal,
        }
    }
}

/// An error with the hints that tell the reader what to do next.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    code: Option<Code>,
    /// Where in the sources it was made, for the log, which may not keep the message.
    place: &'static Location<'static>,
    message: String,
    source: Option<anyhow::Error>,
    hints: Vec<String>,
}

/// The result type of everything that can fail in front of a user.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    #[track_caller]
    fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error { kind, code: None, place: Location::caller(), message: message.into(), source: None, hints: Vec::new() }
    }

    /// The gate, `record` or `verify` said no (exit 1).
    #[track_caller]
    pub fn rejected(message: impl Into<String>) -> Self {
        Error::new(Kind::Rejected, message)
    }

    /// Usage or configuration error (exit 2).
    #[track_caller]
    pub fn usage(message: impl Into<String>) -> Self {
        Error::new(Kind::Usage, message)
    }

    /// Infrastructure failed, nothing was decided (exit 3).
    #[track_caller]
    pub fn infrastructure(message: impl Into<String>) -> Self {
        Error::new(Kind::Infrastructure, message)
    }

    /// A signal ended the command (exit 128 + `signal`).
    #[track_caller]
    pub fn interrupted(signal: i32) -> Self {
        Error::new(Kind::Interrupted(signal), format!("interrupted by {}", signal_name(signal)))
    }

    /// Something that must be written to is read-only here: usage, because running the same command again would fail again.
    #[track_caller]
    pub fn read_only(message: impl Into<String>) -> Self {
        Error::new(Kind::Usage, message).code(Code::ReadOnly).hint(format!("do not revert; {MAKE_WRITABLE}"))
    }

    /// The error for a failed write to this tool's own files: [`Error::read_only`] if the directory may not be written
    /// to at all.
    #[track_caller]
    pub fn unwritten(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::PermissionDenied => Error::read_only(error.to_string()),
            _ => error.into(),
        }
    }

    /// Names it for programs.
    #[must_use]
    pub fn code(mut self, code: Code) -> Self {
        self.code = Some(code);
        self
    }

    /// Its name for programs: its own, or that of its kind.
    pub fn named(&self) -> Code {
        self.code.unwrap_or(match self.kind {
            Kind::Rejected => Code::Rejected,
            Kind::Usage => Code::Usage,
            Kind::Infrastructure => Code::Infrastructure,
            Kind::Interrupted(_) => Code::Interrupted,
        })
    }

    /// Where in the sources it was made.
    pub fn place(&self) -> &'static Location<'static> {
        self.place
    }

    /// Adds a hint: a full sentence or a command that fixes it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// As [`Error::hint`], unless a signal ended the command: then nothing needs fixing.
    #[must_use]
    pub fn hint_unless_interrupted(self, hint: impl Into<String>) -> Self {
        if self.is_interruption() { self } else { self.hint(hint) }
    }

    /// Whether a signal ended the command.
    pub fn is_interruption(&self) -> bool {
        matches!(self.kind, Kind::Interrupted(_))
    }

    /// Keeps the error that says what happened: the first one, not one that only says that it stopped something else.
    pub fn keep_in(self, kept: &mut Option<Error>) {
        if kept.as_ref().is_none_or(|earlier| earlier.is_interruption() && !self.is_interruption()) {
            *kept = Some(self);
        }
    }

    #[must_use]
    pub fn because(mut self, source: impl Into<anyhow::Error>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What sort of failure this is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The exit code this error asks for.
    pub fn exit_code(&self) -> i32 {
        self.kind.exit_code()
    }

    /// The hints, in the order given.
    pub fn hints(&self) -> &[String] {
        &self.hints
    }

    /// The message followed by every cause, each on its own line when printed by `ui`.
    pub fn chain(&self) -> Vec<String> {
        let mut lines = vec![self.message.clone()];
        if let Some(source) = &self.source {
            lines.extend(source.chain().map(ToString::to_string));
        }
        lines.dedup();
        lines
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.chain().join(": "))
    }
}

impl std::error::Error for Error {}

impl From<std::io::Error> for Error {
    /// An I/O error without a handler of its own is infrastructure: a full disk decides nothing. `fs_err` has put the path in.
    #[track_caller]
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::ReadOnlyFilesystem {
            return Error::read_only(error.to_string());
        }
        let full = is_full(&error);
        let result = Error::infrastructure(error.to_string());
        if full { result.code(Code::DiskFull).hint(FREE_SPACE) } else { result }
    }
}

const FREE_SPACE: &str = "free some disk space and run the same command again; finished trials are kept.";

/// Codex mounts `.git`, in which the state directory lies, read-only: <https://github.com/openai/codex/issues/7071>.
pub(crate) const MAKE_WRITABLE: &str = "make the state directory and `.git` writable for whoever runs autoharness; Codex needs `--add-dir .git` for that. \
     `autoharness loop` runs gate, commit and record outside of the coding agent's sandbox.";

fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
}

impl From<git2::Error> for Error {
    #[track_caller]
    fn from(error: git2::Error) -> Self {
        Error::infrastructure(format!("git: {}", error.message())).code(Code::GitUnreadable)
    }
}

/// Adds context to a foreign error and turns it into ours.
pub(crate) trait Context<T> {
    /// `infrastructure` error with this message; the foreign error becomes its cause.
    fn infra(self, message: impl FnOnce() -> String) -> Result<T>;
    /// `usage` error with this message; the foreign error becomes its cause.
    fn usage(self, message: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<anyhow::Error>> Context<T> for std::result::Result<T, E> {
    // No closures: the error would name them as its place.
    #[track_caller]
    fn infra(self, message: impl FnOnce() -> String) -> Result<T> {
        let error: anyhow::Error = match self {
            Ok(value) => return Ok(value),
            Err(error) => error.into(),
        };
        let of_io = |is: fn(&std::io::Error) -> bool| {
            error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>()).any(is)
        };
        if of_io(|cause| cause.kind() == std::io::ErrorKind::ReadOnlyFilesystem) {
            return Err(Error::read_only(message()).because(error));
        }
        let full = of_io(is_full);
        let result = Error::infrastructure(message()).because(error);
        Err(if full { result.code(Code::DiskFull).hint(FREE_SPACE) } else { result })
    }

    #[track_caller]
    fn usage(self, message: impl FnOnce() -> String) -> Result<T> {
        match self {
            Ok(value) => Ok(value),
            Err(error) => Err(Error::usage(message()).because(error)),
        }
    }
}

/// `SIGINT` and friends by number; other numbers print as `signal N`.
pub(crate) fn signal_name(signal: i32) -> String {
    match signal {
        1 => "SIGHUP".into(),
        2 => "SIGINT".into(),
        6 => "SIGABRT".into(),
        9 => "SIGKILL".into(),
        11 => "SIGSEGV".into(),
        13 => "SIGPIPE".into(),
        15 => "SIGTERM".into(),
        other => format!("signal {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_the_contract() {
        assert_eq!(Error::rejected("x").exit_code(), 1);
        assert_eq!(Error::usage("x").exit_code(), 2);
        assert_eq!(Error::infrastructure("x").exit_code(), 3);
        assert_eq!(Error::interrupted(2).exit_code(), 130);
        assert_eq!(Error::interrupted(15).exit_code(), 143);
        assert_eq!(Error::interrupted(1).exit_code(), 129);
    }

    #[test]
    fn being_stopped_never_hides_why() {
        let mut kept = None;
        for error in
            [Error::interrupted(15), Error::infrastructure("the disk"), Error::interrupted(15), Error::usage("y")]
        {
            error.keep_in(&mut kept);
        }
        assert_eq!(kept.map(|error| error.to_string()), Some("the disk".into()));
    }

    #[test]
    fn a_read_only_directory_is_not_waited_for() {
        use std::io::{Error as Io, ErrorKind};
        let read_only = || Io::from(ErrorKind::ReadOnlyFilesystem);
        for error in [
            Error::from(read_only()),
            Err::<(), _>(read_only()).infra(|| "cannot write".into()).unwrap_err(),
            Error::unwritten(ErrorKind::PermissionDenied.into()),
        ] {
            assert_eq!((error.exit_code(), error.named()), (EXIT_USAGE, Code::ReadOnly));
            assert!(error.hints()[0].contains("--add-dir .git"));
        }
        // A foreign file may be refused for many reasons.
        assert_eq!(Error::from(Io::from(ErrorKind::PermissionDenied)).exit_code(), EXIT_INFRASTRUCTURE);
    }

    #[test]
    fn a_code_stays_and_every_error_has_one() {
        assert_eq!(Error::usage("x").named(), Code::Usage);
        assert_eq!(Error::interrupted(2).named(), Code::Interrupted);
        let full = Error::from(std::io::Error::from(std::io::ErrorKind::StorageFull));
        assert_eq!(full.named(), Code::DiskFull);
        assert_eq!(Error::rejected("x").code(Code::NoPassingGate).named(), Code::NoPassingGate);
    }

    #[test]
    fn an_error_knows_the_line_that_made_it() {
        let failed: std::result::Result<(), std::io::Error> = Err(std::io::ErrorKind::NotFound.into());
        let (error, line) = (failed.infra(String::new).unwrap_err(), line!());
        assert_eq!((error.place().file(), error.place().line()), (file!(), line));
    }

    #[test]
    fn the_chain_names_every_cause_once() {
        let cause = anyhow::anyhow!("no such file").context("cannot read x");
        let error = Error::usage("cannot load the configuration").because(cause);
        assert_eq!(error.chain(), ["cannot load the configuration", "cannot read x", "no such file"]);
    }
}
