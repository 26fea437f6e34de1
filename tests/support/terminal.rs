//! A command on a terminal of its own, and what that terminal shows.
#![allow(unreachable_pub, dead_code, reason = "every test file uses its own part")]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot set itself up should panic")]

use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// Starts a program on a pseudo-terminal that is wide enough for every line, hands on what it is sent and exits like the program.
const ON_A_TERMINAL: &str = "\
import os, pty, sys
wide = 'stty rows 50 cols 300 && exec \"$@\"'
sys.exit(os.waitstatus_to_exitcode(pty.spawn(['sh', '-c', wide, 'sh', *sys.argv[1:]])))
";

/// Columns of that terminal.
const WIDE: usize = 300;

/// This command on a terminal; `environment` is all that it sees.
pub fn on_a_terminal(command: &Command) -> Command {
    let mut outer = Command::new(super::python());
    outer.args(["-c", ON_A_TERMINAL]).arg(command.get_program()).args(command.get_args());
    outer.env_clear().env("TERM", "xterm").stdin(Stdio::null());
    outer.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(directory) = command.get_current_dir() {
        outer.current_dir(directory);
    }
    outer
}

/// What a program has sent until now.
pub struct Sent {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Sent {
    /// Begins to read.
    pub fn by(mut from: impl Read + Send + 'static) -> Sent {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let to = Arc::clone(&bytes);
        let reader = std::thread::spawn(move || {
            let mut part = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut part) {
                to.lock().unwrap().extend_from_slice(&part[..count]);
            }
        });
        Sent { bytes, reader }
    }

    /// Until now.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap()).into_owned()
    }

    /// All of it, once the program has ended.
    pub fn whole(self) -> String {
        self.reader.join().unwrap();
        String::from_utf8(std::mem::take(&mut *self.bytes.lock().unwrap())).unwrap()
    }
}

/// The lines that a terminal shows after all of this, without empty ones.
pub fn shown(sent: &str) -> Vec<String> {
    let mut lines = vec![Vec::new()];
    let (mut row, mut column) = (0usize, 0usize);
    let mut rest = sent.chars().peekable();
    while let Some(one) = rest.next() {
        match one {
            '\r' => column = 0,
            '\n' => row += 1,
            '\x1b' if rest.next_if_eq(&'[').is_some() => {
                let mut number = String::new();
                while let Some(digit) = rest.next_if(|next| !next.is_ascii_alphabetic()) {
                    number.push(digit);
                }
                let count = number.parse().unwrap_or(1);
                match rest.next() {
                    Some('A') => row = row.saturating_sub(count),
                    Some('B') => row = (row + count).min(lines.len() - 1),
                    Some('K') if number == "2" => lines[row].clear(),
                    Some('K') => lines[row].truncate(column),
                    Some('J') => {
                        lines[row].truncate(column);
                        lines.truncate(row + 1);
                    }
                    _ => {}
                }
            }
            letter => {
                if column == WIDE {
                    (row, column) = (row + 1, 0);
                    lines.resize(lines.len().max(row + 1), Vec::new());
                }
                if lines[row].len() <= column {
                    lines[row].resize(column + 1, ' ');
                }
                lines[row][column] = letter;
                column += 1;
            }
        }
        lines.resize(lines.len().max(row + 1), Vec::new());
    }
    let text = |line: Vec<char>| line.into_iter().collect::<String>().trim_end().to_string();
    lines.into_iter().map(text).filter(|line| !line.is_empty()).collect()
}
