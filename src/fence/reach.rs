//! What a fence lets through, as words of a command line.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::Command;

use crate::config::is_host;

/// Variables that any program may see: none of them is a secret.
const HARMLESS: [&str; 6] = ["PATH", "LANG", "LANGUAGE", "TZ", "LD_LIBRARY_PATH", "PYTHONHASHSEED"];

/// What one fenced program may reach.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Reach {
    /// Files and directories it may read, besides the system's programs and libraries.
    pub read: Vec<PathBuf>,
    /// Files and directories it may change, besides an empty `/tmp`; they must exist.
    pub write: Vec<PathBuf>,
    /// Whether it sees its own processes in `/proc`: some programs find themselves by it.
    pub proc: bool,
    /// Names of variables it gets.
    pub env: Vec<OsString>,
    /// Whether it may use the network, TCP and UDP; only to [`hosts`](Self::hosts) if some are named.
    pub network: bool,
    /// Whether it may use only TCP.
    pub tcp: bool,
    /// The hosts it may reach by a proxy if it has the network: [names](crate::config::is_host). None: any host.
    pub hosts: Vec<String>,
    /// Whether it gets our stdout, and nothing as stdin.
    pub output: bool,
    /// How many processes and threads it may have at a time.
    pub processes: Option<u64>,
    /// Whether it starts only if every layer stands.
    pub required: bool,
    /// Instead of starting a program, say which layers stand.
    pub report: bool,
    /// Instead of starting a program, print the seccomp filters.
    pub filter: bool,
    /// Instead of starting a program, be the proxy to the hosts for the sockets that stdin brings.
    pub proxy: bool,
    /// Between the two processes of a fence: the port of the proxy.
    pub door: Option<u16>,
    /// Between the two processes of a fence: the layers that the outer one has built, as JSON.
    pub built: Option<String>,
    /// The program and its arguments.
    pub program: Vec<OsString>,
}

/// What of the network a fence lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Network {
    None,
    /// A proxy on this port of the machine itself; the port is not known before there is one.
    Door(Option<u16>),
    Tcp,
    /// TCP and UDP.
    Whole,
}

impl Reach {
    /// What of the network is let through.
    pub(crate) fn reach(&self) -> Network {
        match (self.network, self.hosts.is_empty(), self.tcp) {
            (false, _, _) => Network::None,
            (true, false, _) => Network::Door(self.door),
            (true, true, true) => Network::Tcp,
            (true, true, false) => Network::Whole,
        }
    }

    /// Reads the words after `__fence`.
    /// Errors: says which word makes no sense.
    pub(crate) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Reach, String> {
        let mut reach = Reach::default();
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{} needs a value", word.to_string_lossy()));
            match word.to_str() {
                Some("--read") => reach.read.push(value()?.into()),
                Some("--write") => reach.write.push(value()?.into()),
                Some("--env") => reach.env.push(value()?),
                Some("--proc") => reach.proc = true,
                Some("--built") => reach.built = Some(value()?.to_string_lossy().into_owned()),
                Some("--network") => reach.network = true,
                Some("--tcp") => reach.tcp = true,
                Some("--host") => {
                    let name = value()?.to_string_lossy().into_owned();
                    if !is_host(&name) {
                        return Err(format!("--host needs a host's name, not {name}"));
                    }
                    reach.hosts.push(name);
                }
                Some("--proxy") => reach.proxy = true,
                Some("--door") => reach.door = Some(number(&value()?, "--door")?),
                Some("--output") => reach.output = true,
                Some("--processes") => reach.processes = Some(number(&value()?, "--processes")?),
                Some("--required") => reach.required = true,
                Some("--report") => reach.report = true,
                Some("--filter") => reach.filter = true,
                Some("--") => {
                    reach.program = words.by_ref().collect();
                    break;
                }
                _ => return Err(format!("a fence has no option {}", word.to_string_lossy())),
            }
        }
        if reach.program.is_empty() && !reach.report && !reach.filter && !reach.proxy {
            return Err("a fence needs a program: `__fence [OPTIONS] -- PROGRAM ARGS`".into());
        }
        Ok(reach)
    }

    /// The words that [`Reach::parse`] reads.
    pub(crate) fn words(&self) -> Vec<OsString> {
        let mut words: Vec<OsString> = Vec::new();
        let flags = [
            (self.network, "--network"),
            (self.tcp, "--tcp"),
            (self.proxy, "--proxy"),
            (self.output, "--output"),
            (self.proc, "--proc"),
            (self.required, "--required"),
            (self.report, "--report"),
            (self.filter, "--filter"),
        ];
        words.extend(flags.iter().filter(|(set, _)| *set).map(|(_, word)| OsString::from(word)));
        words.extend(self.processes.iter().flat_map(|most| ["--processes".into(), most.to_string().into()]));
        words.extend(self.hosts.iter().flat_map(|host| ["--host".into(), host.into()]));
        words.extend(self.door.iter().flat_map(|port| ["--door".into(), port.to_string().into()]));
        for path in &self.read {
            words.extend([OsString::from("--read"), path.into()]);
        }
        for path in &self.write {
            words.extend([OsString::from("--write"), path.into()]);
        }
        for name in &self.env {
            words.extend([OsString::from("--env"), name.clone()]);
        }
        words.extend(self.built.iter().flat_map(|built| [OsString::from("--built"), built.into()]));
        words.push("--".into());
        words.extend(self.program.iter().cloned());
        words
    }

    /// The program, with the variables that it may see and no others.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(self.program.first().map_or(OsStr::new(""), OsString::as_os_str));
        command.args(self.program.iter().skip(1)).env_clear();
        command.envs(std::env::vars_os().filter(|(name, _)| self.lets_through(name)));
        command
    }

    fn lets_through(&self, name: &OsStr) -> bool {
        self.env.iter().any(|wanted| wanted == name)
            || name.to_str().is_some_and(|name| HARMLESS.contains(&name) || name.starts_with("LC_"))
    }

    /// The program's name, for messages.
    pub(crate) fn name(&self) -> String {
        self.program.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }
}

fn number<T: std::str::FromStr>(word: &OsStr, option: &str) -> Result<T, String> {
    let parsed = word.to_str().and_then(|number| number.parse().ok());
    parsed.ok_or_else(|| format!("{option} needs a number, not {}", word.to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_they_are_written() {
        let reach = Reach {
            read: vec!["/a b".into(), "/c".into()],
            write: vec!["/d".into()],
            proc: true,
            env: vec!["KEY".into()],
            network: true,
            tcp: true,
            hosts: vec!["a.example".into(), ".b:1".into()],
            proxy: true,
            door: Some(8),
            output: true,
            processes: Some(7),
            required: true,
            report: false,
            filter: true,
            built: Some("{}".into()),
            program: vec!["python3".into(), "--read".into(), "--".into()],
        };
        assert_eq!(Reach::parse(reach.words()), Ok(reach));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for words in [
            &["--reed", "/"][..],
            &["--read"],
            &[],
            &["--network", "--"],
            &["--host", "a/b", "--", "y"],
            &["--door", "70000", "--", "y"],
            &["--processes", "x", "--", "y"],
            &["python3"],
        ] {
            assert!(Reach::parse(words.iter().map(OsString::from)).is_err(), "{words:?}");
        }
    }
}
