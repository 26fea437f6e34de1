//! `init`: a new experiment from the embedded templates.

use std::path::Path;

use crate::benchmarks::{self, Benchmark};
use crate::cli::{Global, Init};
use crate::config::{CONFIG_FILE, Environment};
use crate::error::{Context, EXIT_OK, Error, Result};
use crate::guard::Repo;
use crate::process::Supervisor;
use crate::process::git::Git;
use crate::process::signals::Cancel;
use crate::store::atomic;
use crate::templates;
use crate::ui::Ui;

/// What hosting services and editors put into a new repository: no reason to refuse it. Compared without an ending.
const WELCOME: [&str; 19] = [
    ".claude",
    ".DS_Store",
    ".editorconfig",
    ".git",
    ".gitattributes",
    ".github",
    ".gitignore",
    ".idea",
    ".mailmap",
    ".vscode",
    "AGENTS",
    "AUTHORS",
    "CHANGELOG",
    "CLAUDE",
    "CODEOWNERS",
    "COPYING",
    "LICENCE",
    "LICENSE",
    "NOTICE",
];

/// Errors: usage when the directory is not empty, its repository cannot be used or the benchmark is unknown; infrastructure when git
/// fails.
pub(super) async fn run(args: &Init, global: &Global, ui: &Ui) -> Result<i32> {
    let unknown = || Error::usage(format!("there is no benchmark `{}`", args.benchmark));
    let benchmark = benchmarks::find(&args.benchmark).ok_or_else(unknown)?;
    let directory = global.here().join(&args.dir);
    // A repository that cannot be used is refused before anything is written: a second one inside it would hide the
    // experiment from the first.
    let existing = directory.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("."));
    let existing = if existing.as_os_str().is_empty() { Path::new(".") } else { existing };
    let (outer, real) = (Repo::find(existing)?, fs_err::canonicalize(existing)?);
    if outer.as_ref().is_some_and(|outer| real.starts_with(outer.common_dir())) {
        return Err(Error::usage(format!("{} is in the directory where git keeps its own files", args.dir.display()))
            .hint("name a directory in the work tree, or outside the repository: `autoharness init DIR --benchmark NAME`."));
    }
    fs_err::create_dir_all(&directory)?;
    let directory = fs_err::canonicalize(directory)?;
    let found = look_around(&directory)?;
    let mut files = templates::scaffold(benchmark);
    let mut written = Vec::new();
    for (name, content) in &mut files {
        let path = directory.join(&*name);
        if !path.exists() {
            atomic::replace(&path, content.as_bytes())?;
            written.push(name.clone());
        } else if let Some(merged) = found.merged(name, content)? {
            atomic::replace(&path, merged.as_bytes())?;
            ui.status(format!("{name}: added what an experiment must ignore"));
            written.push(name.clone());
        } else {
            ui.status(format!("{name} already exists"));
        }
    }
    // A coding agent's file with other content is the user's: it is not ours to commit.
    let is_theirs = |name: &str, content: &str| {
        templates::INVITATIONS.contains(&name)
            && fs_err::read(directory.join(name)).map_or(true, |found| found != content.as_bytes())
    };
    let ours = |name: &&str| ![CONFIG_FILE, templates::SCHEMA_FILE].contains(name);
    let scaffold = files.iter().filter(|(name, content)| !is_theirs(name, content));
    let scaffold: Vec<&str> = scaffold.map(|(name, _)| name.as_str()).filter(ours).collect();
    let cancel = Cancel::on_signals()?;
    let place = FirstCommit {
        directory: &directory,
        found: &found,
        scaffold: &scaffold,
        written: &written,
        cancel: &cancel,
        ui,
    };
    place.commit(outer.is_none()).await?;
    let what = if found.experiment { "completed" } else { "created" };
    ui.line(format!("{what} {} ({})", directory.display(), benchmark.name()));
    ui.json(
        &serde_json::json!({"type": "init", "directory": directory, "benchmark": benchmark.name(), "written": written}),
    );
    ui.hint(next(benchmark, &args.dir));
    Ok(EXIT_OK)
}

fn next(benchmark: &dyn Benchmark, directory: &Path) -> String {
    let go = if directory == Path::new(".") {
        String::new()
    } else {
        format!("cd {} && ", templates::shell_word(&directory.to_string_lossy()))
    };
    if benchmark.scaffold().is_ready {
        return format!("next: {go}autoharness prepare");
    }
    format!("look through experiment_config.yaml, put keys into .env, then: {go}autoharness prepare")
}

/// What the directory holds before anything is written.
struct DirectoryContent {
    directory: std::path::PathBuf,
    /// True when it is an experiment already, perhaps half a one.
    experiment: bool,
    /// Files of [`WELCOME`] that a first commit may include: not `.git`, and not a coding agent's own files.
    welcome: Vec<String>,
}

fn look_around(directory: &Path) -> Result<DirectoryContent> {
    let experiment = [CONFIG_FILE, "experiment_config.yaml.template"].iter().any(|name| directory.join(name).exists());
    let mut welcome = Vec::new();
    for entry in fs_err::read_dir(directory)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let stem = name.split_once('.').map_or(name.as_str(), |(stem, _)| stem);
        if WELCOME.contains(&name.as_str()) || WELCOME.contains(&stem) || stem.eq_ignore_ascii_case("readme") {
            welcome.extend((![".git", ".claude"].contains(&name.as_str())).then_some(name));
        } else if !experiment {
            return Err(Error::usage(format!("{} is not empty: it has {name}", directory.display())).hint(
                "choose an empty or new directory: `autoharness init DIR --benchmark NAME`; a README, a LICENSE and git's own files are welcome.",
            ));
        }
    }
    welcome.sort();
    Ok(DirectoryContent { directory: directory.to_path_buf(), experiment, welcome })
}

impl DirectoryContent {
    /// What an existing `.gitignore` becomes: without our rules git would track `workspace/` and `.env`. `None` for every
    /// other file, and where nothing is missing. In an existing experiment, a missing rule was removed on purpose.
    fn merged(&self, name: &str, content: &str) -> Result<Option<String>> {
        if name != ".gitignore" || self.experiment {
            return Ok(None);
        }
        let mut text = fs_err::read_to_string(self.directory.join(name)).map_err(|error| {
            Error::usage("cannot read .gitignore as text").because(error).hint("make it a text file.")
        })?;
        let known: Vec<&str> = text.lines().map(str::trim).collect();
        let missing: Vec<&str> = content
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#') && !known.contains(line))
            .collect();
        if missing.is_empty() {
            return Ok(None);
        }
        let added = format!("\n# added by autoharness\n{}\n", missing.join("\n"));
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&added);
        Ok(Some(text))
    }
}

/// Where the first commit is made, and what it contains.
struct FirstCommit<'a> {
    directory: &'a Path,
    found: &'a DirectoryContent,
    /// Every file of the scaffold that git tracks.
    scaffold: &'a [&'a str],
    /// Those written now.
    written: &'a [String],
    cancel: &'a Cancel,
    ui: &'a Ui,
}

impl FirstCommit<'_> {
    /// `git init` where there is no repository, an identity where it has none, and a commit of just the scaffold's files
    /// that no commit has: those written here, and those that an earlier `init` could not commit.
    async fn commit(&self, make_repository: bool) -> Result<()> {
        let environment = Environment::load(self.directory)?;
        // Nothing is locked yet and no state directory exists, so children are recorded in a separate place.
        let registry = tempfile::tempdir().infra(|| "cannot make a temporary directory".into())?;
        let supervisor = Supervisor::new(registry.path())?;
        let (directory, cancel) = (self.directory, self.cancel);
        let git = Git { supervisor: &supervisor, environment: &environment, directory, cancel };
        if make_repository {
            git.run(&["init", "--quiet"]).await?;
            self.ui.status("made a git repository");
        }
        if let Some(identity) = git.ensure_identity().await? {
            self.ui.status(format!(
                "commits in this repository are made by {identity} (git config user.name, user.email)"
            ));
        }
        let first = Repo::open(self.directory)?.head()?.is_none();
        let mut files = self.scaffold.to_vec();
        if first {
            files.extend(self.found.welcome.iter().map(String::as_str).filter(|name| !self.scaffold.contains(name)));
        }
        let mut status = vec!["status", "--porcelain", "-z", "--untracked-files=all", "--no-renames", "--"];
        status.extend(&files);
        let listing = git.run(&status).await?.stdout;
        let listing = String::from_utf8_lossy(&listing).into_owned();
        // git names paths from the root of its work tree; ours end with the name that we know.
        let ends_with =
            |path: &str, name: &str| path.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('/'));
        let ours = |path: &str, names: &[&str]| names.iter().any(|name| ends_with(path, name));
        let written: Vec<&str> = self.written.iter().map(String::as_str).collect();
        let uncommitted: Vec<String> = listing
            .split('\0')
            .filter_map(|line| Some((line.get(..2)?, line.get(3..)?)))
            .filter(|(state, path)| *state == "??" || state.starts_with('A') || ours(path, &written))
            .map(|(_, path)| format!(":(top,literal){path}"))
            .collect();
        if !uncommitted.is_empty() {
            let paths: Vec<&str> = uncommitted.iter().map(String::as_str).collect();
            let mut add = vec!["add", "--"];
            add.extend(&paths);
            git.run(&add).await?;
            git.commit("Start an autoharness experiment", &paths).await?;
            self.ui.status("committed the scaffold");
        }
        self.require_committed()
    }

    /// An experiment with uncommitted files cannot be prepared; better to say so now than then.
    fn require_committed(&self) -> Result<()> {
        let repo = Repo::open(self.directory)?;
        let tree = repo.head()?.map(|head| repo.tree(&head)).transpose()?;
        let has = |name: &&&str| tree.as_ref().is_some_and(|tree| tree.get(name.as_bytes()).is_some());
        let needed = |name: &&&str| !templates::INVITATIONS.contains(*name);
        match self.scaffold.iter().filter(needed).find(|name| !has(name)) {
            None => Ok(()),
            Some(name) => Err(Error::usage(format!("{name} is not committed: git ignores it")).hint(format!(
                "`git check-ignore -v {name}` names the rule; take it out, then run `autoharness init` again."
            ))),
        }
    }
}
