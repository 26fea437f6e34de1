//! What a coding agent may reach: its work tree, its own home configuration, programs and the network. Not the experiment, its
//! state, or what else lies in the user's home.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::drivers::Driver;
use crate::config::{Environment, FenceMode};
use crate::error::{Code, Error, Result};
use crate::fence::{ENTRY, Reach, try_out};
use crate::process::Supervisor;
use crate::process::signals::Cancel;

/// Programs that coding agents start; their files must be readable.
const PROGRAMS: [&str; 4] = ["node", "python3", "git", "rg"];

/// How a fence around coding agents is built.
pub(crate) struct SessionFence<'a> {
    pub supervisor: &'a Supervisor,
    /// Where programs and the home directory are.
    pub environment: &'a Environment,
    /// What must stay out of reach: the experiment and its state.
    pub forbidden: &'a [PathBuf],
    pub mode: FenceMode,
}

impl SessionFence<'_> {
    /// The command prefix of the coding agent's program; empty if the fence is switched off or, with `fence: auto`, the
    /// machine has no fence of files. `names`: of the variables that the coding agent gets. Errors: usage where it is
    /// required and a layer does not stand; `Interrupted`.
    pub(crate) async fn around(
        &self,
        driver: &Driver,
        program: &OsString,
        worktree: &Path,
        names: &[OsString],
        cancel: &Cancel,
    ) -> Result<Option<Vec<OsString>>> {
        if self.mode == FenceMode::Off {
            return Ok(None);
        }
        let (own, layers) = match try_out(self.supervisor, self.environment, worktree, cancel).await? {
            Ok(tried) => tried,
            Err(why) => return self.lacking(&why),
        };
        let stands = match self.mode {
            FenceMode::Required => layers.missing.is_empty(),
            // Without either, no file would be out of reach.
            _ => layers.has("root") || layers.has("landlock"),
        };
        if !stands {
            return self.lacking(&layers.to_string());
        }
        let reach = Reach {
            read: self.readable(driver, program),
            write: self.writable(driver, worktree)?,
            // A session's `/tmp` is its own.
            env: names.iter().filter(|name| *name != "TMPDIR").cloned().collect(),
            network: true,
            output: true,
            proc: true,
            required: self.mode == FenceMode::Required,
            ..Reach::default()
        };
        let mut words = vec![own.into(), ENTRY.into()];
        words.extend(reach.words());
        Ok(Some(words))
    }

    fn lacking(&self, what: &str) -> Result<Option<Vec<OsString>>> {
        if self.mode == FenceMode::Required {
            return Err(Error::usage(format!("`fence: required`, but the coding agent cannot be fenced in: {what}"))
                .code(Code::EnvironmentNotReady)
                .hint("run the loop on a machine that allows what is missing, or set `fence: auto`."));
        }
        Ok(None)
    }

    /// The coding agent's program with the files around it, other programs that it starts, git's configuration.
    fn readable(&self, driver: &Driver, program: &OsString) -> Vec<PathBuf> {
        let home = self.home();
        let mut all = Vec::new();
        let path = self.environment.get("PATH").unwrap_or_default();
        for name in std::iter::once(program.clone()).chain(PROGRAMS.map(OsString::from)) {
            let Ok(found) = which::which_in(&name, Some(path), ".") else { continue };
            let real = fs_err::canonicalize(&found).unwrap_or_else(|_| found.clone());
            for place in [&found, &real] {
                all.extend(package(place, home.as_deref()));
            }
            all.push(found);
        }
        // What a session asks the loop with.
        all.extend(self.supervisor.program());
        if let Driver::Own(_, agent) = driver {
            // A script that is named with its whole path.
            all.extend(
                agent.command.iter().skip(1).map(PathBuf::from).filter(|word| word.is_absolute() && word.is_file()),
            );
            all.extend(agent.reads.iter().map(|path| self.at_home(path)));
        }
        all.extend(home.map(|home| home.join(".gitconfig")));
        self.allowed(all)
    }

    /// The work tree, and the coding agent's own files in the home directory.
    fn writable(&self, driver: &Driver, worktree: &Path) -> Result<Vec<PathBuf>> {
        let own: &[&str] = match driver {
            Driver::Claude => &["~/.claude", "~/.claude.json"],
            Driver::Codex => &["~/.codex"],
            Driver::Gemini => &["~/.gemini"],
            Driver::OpenCode => {
                &["~/.config/opencode", "~/.local/share/opencode", "~/.local/state/opencode", "~/.cache/opencode"]
            }
            Driver::Own(..) => &[],
        };
        let mut all: Vec<PathBuf> = own.iter().map(|path| self.at_home(path)).collect();
        for directory in all.iter().filter(|path| path.extension().is_none_or(|ending| ending != "json")) {
            // It would create them itself, but cannot behind a fence.
            fs_err::create_dir_all(directory)?;
        }
        if let Driver::Own(_, agent) = driver {
            all.extend(agent.writes.iter().map(|path| self.at_home(path)));
        }
        let mut all = self.allowed(all);
        all.push(worktree.to_path_buf());
        Ok(all)
    }

    fn home(&self) -> Option<PathBuf> {
        self.environment.process("HOME").map(PathBuf::from).filter(|home| home.is_absolute())
    }

    fn at_home(&self, path: &str) -> PathBuf {
        match (path.strip_prefix("~/"), self.home()) {
            (Some(rest), Some(home)) => home.join(rest),
            _ => PathBuf::from(path),
        }
    }

    /// Without missing paths, and without those that would expose the experiment or its state.
    fn allowed(&self, mut all: Vec<PathBuf>) -> Vec<PathBuf> {
        let real = |path: &Path| fs_err::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        let forbidden: Vec<PathBuf> = self.forbidden.iter().map(|path| real(path)).collect();
        all.retain(|path| {
            let path = real(path);
            path.exists() && !forbidden.iter().any(|place| place.starts_with(&path) || path.starts_with(place))
        });
        all.sort();
        all.dedup();
        all
    }
}

/// The directory that belongs to a program: for `/opt/node/bin/x` all of `/opt/node`, for one that npm installed all of
/// `node_modules`, otherwise its own directory. Never a home directory or `~/.local`, which hold everything.
fn package(program: &Path, home: Option<&Path>) -> Option<PathBuf> {
    // A package's binary for this platform is another package beside it.
    if let Some(modules) = program.ancestors().filter(|path| path.ends_with("node_modules")).last() {
        return Some(modules.to_path_buf());
    }
    let directory = program.parent()?;
    let package = if directory.ends_with("bin") { directory.parent()? } else { directory };
    let too_much = |path: &Path| {
        path.parent().is_none() || home.is_some_and(|home| home.starts_with(path) || path == home.join(".local"))
    };
    if !too_much(package) {
        return Some(package.to_path_buf());
    }
    (!too_much(directory)).then(|| directory.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_a_program_is_never_a_whole_home() {
        let home = Some(Path::new("/home/me"));
        for (program, expected) in [
            ("/home/me/.nvm/versions/node/v22/bin/node", Some("/home/me/.nvm/versions/node/v22")),
            ("/home/me/.local/bin/claude", Some("/home/me/.local/bin")),
            ("/home/me/bin/claude", Some("/home/me/bin")),
            ("/home/me/x/node_modules/@openai/codex/node_modules/a/bin/codex.js", Some("/home/me/x/node_modules")),
            ("/home/me/claude", None),
            ("/home/me/.local/share/claude/versions/2.1", Some("/home/me/.local/share/claude/versions")),
            ("/usr/bin/git", Some("/usr")),
            ("/bin/sh", Some("/bin")),
        ] {
            assert_eq!(package(Path::new(program), home), expected.map(PathBuf::from), "{program}");
        }
    }
}
