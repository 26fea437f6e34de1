//! Agent files of hostile lines: of one, or of all of them at once.

use super::agents::{HOSTILE, Hostile, PRELUDE, Sign};
use super::field::Field;
use super::judging::token;

/// The agent of `command` and of `demo`.
pub(super) const CLASS: &str = "
class HarnessAgent:
    def solve(self, question):
        return solve(question)
";

/// The agent file of a line. What it leaves has a name of its own in every run.
pub(super) fn file(hostile: &Hostile, field: &Field, token: u32, class: &str) -> String {
    agent(&format!("{PRELUDE}{}", function(hostile, token, field.port())), class)
}

/// The agent file of all of these lines at once: it says which of them got through.
pub(super) fn file_of(lines: &[&Hostile], field: &Field, token: u32, class: &str) -> String {
    let all = dictionary(lines.iter().copied(), token, field.port());
    let each = "
def attack():
    found = []
    for name, one in ATTACKS.items():
        try:
            if one():
                found.append(name)
        except BaseException:
            pass
    return found and '|%s|' % '|'.join(found)
";
    agent(&format!("{all}{each}"), class)
}

/// A line as a function `attack`.
fn function(line: &Hostile, token: u32, port: u16) -> String {
    let code = line.code.replace("TOKEN", &token.to_string()).replace("PORT", &port.to_string());
    let body = if code.starts_with('\n') { code } else { format!("\n    {code}") };
    format!("def attack():{body}\n")
}

/// These lines as a dictionary `ATTACKS` of functions by their names.
fn dictionary<'a>(lines: impl Iterator<Item = &'a Hostile>, token: u32, port: u16) -> String {
    let mut text = format!("{PRELUDE}\nATTACKS = {{}}\n");
    for line in lines {
        text.push_str(&format!("{}ATTACKS[{:?}] = attack\n", function(line, token, port), line.name));
    }
    text
}

/// An agent that does what the function `attack` does.
fn agent(attack: &str, class: &str) -> String {
    format!(
        "{attack}

def solve(question):
    try:
        found = attack()
    except BaseException:
        found = None
    return 'through: %r' % (found,) if found else 'held'
{class}"
    )
}

/// The lines that try to reach or to leave something, as a dictionary `ATTACKS` of functions by their names: for agents that
/// try all of them in one trial. `but` these. `port`: somebody listens there. Without a fence only those that show something, and do no harm: root would mount
/// over everybody's /tmp.
pub(crate) fn attacks(fenced: bool, but: &[&str], port: u16) -> String {
    let tried = HOSTILE.iter().filter(|line| match line.sign {
        Sign::Reaches | Sign::Leaves => !but.contains(&line.name),
        Sign::MayReach | Sign::MayLeave => fenced && !but.contains(&line.name),
        Sign::Spoils(_) => false,
    });
    dictionary(tried, token(4_500), port)
}
