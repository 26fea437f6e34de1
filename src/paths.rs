//! Every path of an experiment, named once.

use std::path::{Path, PathBuf};

use crate::error::{Code, Context, Error, Result};

/// Overrides the state directory: CI restores one from its cache.
pub(crate) const STATE_VARIABLE: &str = "AUTOHARNESS_STATE_DIR";

/// Where an experiment keeps its files.
#[derive(Debug, Clone)]
pub struct Paths {
    /// The experiment directory, absolute.
    pub root: PathBuf,
    /// experiment_config.yaml, or the file named with `--config`.
    pub config: PathBuf,
    /// State the coding agent has no business in; outside the work tree.
    pub state: PathBuf,
}

impl Paths {
    /// Resolves the experiment directory and its configuration file; `state` is still empty, see [`Paths::with_state`].
    ///
    /// # Errors
    /// Usage when the directory does not exist.
    pub fn new(directory: &Path, config: Option<&Path>) -> Result<Paths> {
        let root = fs_err::canonicalize(directory)
            .usage(|| format!("there is no directory {}", directory.display()))
            .map_err(|error| {
            error
                .code(Code::NoExperiment)
                .hint("name the experiment directory with -C, or create one with `autoharness init DIR`.")
        })?;
        if root.to_str().is_none() {
            return Err(Error::usage(format!("the path of the experiment is not UTF-8: {}", root.display()))
                .hint("move it: benchmark programs are told paths in JSON, which is UTF-8."));
        }
        let config = match config {
            Some(path) => std::path::absolute(path).usage(|| format!("cannot use {}", path.display()))?,
            None => root.join("experiment_config.yaml"),
        };
        Ok(Paths { root, config, state: PathBuf::new() })
    }

    /// Fixes the state directory: `$AUTOHARNESS_STATE_DIR`, else `<git common dir>/autoharness`, and below that
    /// `at/<prefix>` for an experiment in a sub-directory, so that several experiments can share a repository.
    ///
    /// # Errors
    /// Usage when the override lies inside the work tree, where the coding agent could read hold-out data.
    #[must_use = "returns the completed paths"]
    pub fn with_state(mut self, chosen: Option<&Path>, common_dir: &Path, prefix: &str) -> Result<Paths> {
        self.state = match chosen {
            Some(path) => {
                let path = real_path(&std::path::absolute(path).usage(|| format!("cannot use {}", path.display()))?);
                if path.starts_with(&self.root) && !path.starts_with(real_path(common_dir)) {
                    return Err(Error::usage(format!(
                        "{STATE_VARIABLE} lies inside the experiment: {}",
                        path.display()
                    ))
                    .hint("choose a directory outside the work tree: the state holds hold-out results."));
                }
                path
            }
            None if prefix.is_empty() => common_dir.join("autoharness"),
            None => common_dir.join("autoharness/at").join(crate::store::task_name::directory_name(prefix)),
        };
        Ok(self)
    }

    /// Creates the state directory, readable by its owner only.
    ///
    /// # Errors
    /// Usage where it may not be written to, infrastructure when it cannot be created for another reason.
    pub fn create_state(&self) -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        fs_err::create_dir_all(&self.state).map_err(Error::unwritten)?;
        fs_err::set_permissions(&self.state, std::fs::Permissions::from_mode(0o700)).map_err(Error::unwritten)
    }

    /// Results, traces, learnings: readable by the coding agent, ignored by git.
    pub fn workspace(&self) -> PathBuf {
        self.root.join("workspace")
    }

    /// The coding agent's instructions.
    pub fn program(&self) -> PathBuf {
        self.root.join("PROGRAM.md")
    }

    /// The coding agent's notes.
    pub fn learnings(&self) -> PathBuf {
        self.workspace().join("learnings.md")
    }

    /// The source of truth.
    pub fn ledger(&self) -> PathBuf {
        self.state.join("ledger.jsonl")
    }

    /// What the ledger added up to when it was last written.
    pub fn checkpoint(&self) -> PathBuf {
        self.state.join("checkpoint.json")
    }

    /// Digests of the views last written.
    pub fn written_views(&self) -> PathBuf {
        self.state.join("views.json")
    }

    pub fn lock(&self) -> PathBuf {
        self.state.join("lock")
    }

    /// What commands did and waited for.
    pub fn log(&self) -> PathBuf {
        self.state.join("autoharness.log")
    }

    /// One file per running child, so that the next command can end what a killed one left.
    pub fn processes(&self) -> PathBuf {
        self.state.join("processes")
    }

    /// How far the loop has got.
    pub fn loop_state(&self) -> PathBuf {
        self.state.join("loop.json")
    }

    /// The repository of its own through which the loop looks at a work tree.
    pub fn loop_view(&self) -> PathBuf {
        self.state.join("loop-view")
    }

    /// What the loop packs its work trees from, kept for the whole night.
    pub fn loop_packs(&self) -> PathBuf {
        self.state.join("loop-packs")
    }

    /// Held by the running loop: one at a time, and not while single commands hold the experiment.
    pub fn loop_lock(&self) -> PathBuf {
        self.state.join("loop.lock")
    }

    /// Like [`Paths::processes`], for the loop: its children are commands that end what those files list.
    pub fn loop_processes(&self) -> PathBuf {
        self.state.join("loop-processes")
    }

    /// Staged copies of the experiment, one per content.
    pub fn staging(&self) -> PathBuf {
        self.state.join("staging")
    }

    /// Private scratch directories of runs.
    pub fn scratch(&self) -> PathBuf {
        self.state.join("scratch")
    }

    /// Copies of a staged copy, one per run. Everything that the agents of runs may read is here, and nothing else.
    pub fn copies(&self) -> PathBuf {
        self.state.join("copies")
    }

    /// Logs of benchmarks, one per run.
    pub fn logs(&self) -> PathBuf {
        self.state.join("logs")
    }

    /// Traces of a baseline whose split is not drawn yet.
    pub fn private_traces(&self) -> PathBuf {
        self.state.join("baseline-traces")
    }

    /// Traces that the workspace did not take; the next command tries again.
    pub fn pending_traces(&self) -> PathBuf {
        self.state.join("pending-traces")
    }

    /// Files of the embedded benchmarks, written out.
    pub fn embedded(&self) -> PathBuf {
        self.state.join("embedded")
    }
}

/// The path with every link followed in the part that exists.
fn real_path(path: &Path) -> PathBuf {
    let exists = path.ancestors().find_map(|part| Some((part, fs_err::canonicalize(part).ok()?)));
    match exists {
        Some((part, real)) => real.join(path.strip_prefix(part).unwrap_or(Path::new(""))),
        None => path.to_path_buf(),
    }
}
