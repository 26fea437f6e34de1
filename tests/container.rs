//! Dockerfile, .dockerignore and docker-compose.yml agree with the sources. No Docker is needed, so none is run: what an
//! engine alone can show is not tested here.
#![expect(clippy::unwrap_used, reason = "a test that cannot read its files should panic")]

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use autoharness::internals::benchmarks::tau_bench::TauBenchSettings;
use autoharness::internals::benchmarks::tau_bench::install as tau2;
use autoharness::internals::benchmarks::terminal_bench::runner::HarborRunner;
use autoharness::internals::config::is_secret_name;
use autoharness::internals::provision::python::Version;
use serde_yaml::Value;

const DOCKERFILE: &str = include_str!("../Dockerfile");
const DOCKERIGNORE: &str = include_str!("../.dockerignore");
const COMPOSE: &str = include_str!("../docker-compose.yml");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The instructions of the Dockerfile, continued lines joined: `(stage, word, rest)`.
fn instructions() -> Vec<(String, String, String)> {
    let lines: Vec<&str> = DOCKERFILE.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
    let joined = lines.join("\n").replace("\\\n", " ");
    let mut stage = String::new();
    let mut instructions = Vec::new();
    for line in joined.lines().filter(|line| !line.trim().is_empty()) {
        let (word, rest) = line.trim().split_once(' ').unwrap();
        if word == "FROM" {
            stage = rest.split_once(" AS ").map_or("", |(_, name)| name).to_string();
        }
        instructions.push((stage.clone(), word.to_string(), rest.trim().to_string()));
    }
    instructions
}

/// What a stage copies out of the build context.
fn copied(stage: &str) -> Vec<String> {
    let mut sources = Vec::new();
    for (_, _, rest) in instructions().iter().filter(|(at, word, _)| at == stage && word == "COPY") {
        let words: Vec<&str> = rest.split_whitespace().collect();
        if !words[0].starts_with("--from=") {
            assert!(
                !words.iter().any(|word| word.starts_with("--") || word.contains(['*', '['])),
                "teach this test: {rest}"
            );
            sources.extend(words[..words.len() - 1].iter().map(ToString::to_string));
        }
    }
    sources
}

/// Whether .dockerignore keeps a path out of the build context: the last line that matches it, or a directory above it,
/// decides. Only the forms that the file uses are understood.
fn ignored(path: &str) -> bool {
    let mut ignored = false;
    for line in DOCKERIGNORE.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (pattern, leave_out) = match line.strip_prefix('!') {
            Some(pattern) => (pattern, false),
            None => (line, true),
        };
        let parts: Vec<&str> = path.split('/').collect();
        let matches = match pattern.strip_prefix("**/") {
            Some(name) => match name.strip_prefix('*') {
                Some(end) => parts.iter().any(|part| part.ends_with(end)),
                None => parts.contains(&name),
            },
            None if pattern == "*" => true,
            None => {
                assert!(!pattern.contains(['*', '?', '[', '/']), "teach this test: {line}");
                parts[0] == pattern
            }
        };
        if matches {
            ignored = leave_out;
        }
    }
    ignored
}

/// The path without `..`, relative to the repository.
fn plain(path: &Path) -> String {
    let mut parts = Vec::new();
    for part in path.strip_prefix(root()).unwrap().components() {
        match part {
            Component::ParentDir => {
                parts.pop().unwrap();
            }
            part => parts.push(part.as_os_str().to_string_lossy().into_owned()),
        }
    }
    parts.join("/")
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let files = walkdir::WalkDir::new(directory).into_iter().map(Result::unwrap);
    files.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path).collect()
}

/// Every file that building the program reads: its modules, what they embed, the targets that Cargo.toml names.
fn needed() -> BTreeSet<String> {
    let mut needed: BTreeSet<String> = ["Cargo.toml", "Cargo.lock"].map(String::from).into();
    for line in include_str!("../Cargo.toml").split("[[bench]]\n").skip(1) {
        let name = line.lines().find_map(|line| line.strip_prefix("name = ")).unwrap();
        needed.insert(format!("benches/{}.rs", name.trim_matches('"')));
    }
    let quoted = |text: &str| text.split('"').nth(1).unwrap().to_string();
    for source in files_below(&root().join("src")) {
        needed.insert(plain(&source));
        let Ok(text) = fs_err::read_to_string(&source) else { continue };
        for call in ["include_str!(", "include_bytes!("] {
            for rest in text.split(call).skip(1) {
                // With `concat!`, files of a benchmark's folder: they are below src, and so they are in already.
                if !rest.starts_with("concat!") {
                    needed.insert(plain(&source.parent().unwrap().join(quoted(rest))));
                }
            }
        }
    }
    needed.retain(|path| !path.contains("__pycache__"));
    needed
}

#[test]
fn the_build_gets_every_file_it_needs() {
    let copied = copied("build");
    let needed = needed();
    assert!(needed.len() > 100 && needed.contains("src/fence/twin.py"), "{needed:?}");
    for path in &needed {
        assert!(root().join(path).is_file(), "{path} does not exist");
        let covers = |source: &String| path == source || path.starts_with(&format!("{source}/"));
        assert!(copied.iter().any(covers), "the Dockerfile's build stage copies no {path}");
        assert!(!ignored(path), ".dockerignore keeps {path} out");
    }
}

#[test]
fn what_is_copied_exists_and_nothing_private_is_sent() {
    let mut stages: Vec<String> = instructions().into_iter().map(|(stage, _, _)| stage).collect();
    stages.dedup();
    for source in stages.iter().flat_map(|stage| copied(stage)) {
        assert!(root().join(&source).exists() && !ignored(&source), "{source} is not in the build context");
    }
    let private =
        [".env", ".git/config", "workspace/results.tsv", "experiment_config.yaml", "tau2_data/a/b", "target/x"];
    for path in private.into_iter().chain(["agent/__pycache__/agent.cpython-312.pyc", "src/.env.example.pyc"]) {
        assert!(ignored(path), "{path} is sent to whoever builds the image");
    }
    // Every stage that another one takes from comes before it.
    for (_, _, rest) in instructions().iter().filter(|(_, word, rest)| word == "COPY" && rest.starts_with("--from=")) {
        let from = rest.split(['=', ' ']).nth(1).unwrap();
        assert!(stages.iter().any(|stage| stage == from), "no stage is called {from}");
    }
}

#[test]
fn the_versions_are_those_of_the_sources() {
    let all = instructions();
    let value = |name: &str| {
        let sets = |(_, word, rest): &&(String, String, String)| word == "ARG" && rest.starts_with(&format!("{name}="));
        all.iter().find(sets).unwrap_or_else(|| panic!("no ARG {name}")).2.split_once('=').unwrap().1.to_string()
    };
    let defaults = TauBenchSettings::default();
    assert_eq!(value("TAU2_REVISION"), defaults.tau2_revision);
    assert_eq!(value("TAU2_REPOSITORY"), defaults.tau2_repository);

    let image = |name: &str| {
        let from =
            |(_, word, rest): &&(String, String, String)| word == "FROM" && rest.starts_with(&format!("{name}:"));
        all.iter().find(from).unwrap().2.split([':', ' ']).nth(1).unwrap().to_string()
    };
    let manifest = include_str!("../Cargo.toml");
    let rust = manifest.lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap().trim_matches('"');
    assert!(image("rust").starts_with(&format!("{rust}-")), "{} is not Rust {rust}", image("rust"));
    let python = Version::parse(&image("python")).unwrap();
    assert!(tau2::PYTHON.contains(python), "tau2 does not work with Python {python}");
    // Both ends of what is copied from one stage to the next have the same C library.
    assert_eq!(image("rust").split_once('-').unwrap().1, image("python").split_once('-').unwrap().1);
}

#[test]
fn the_image_says_where_its_tau2_is() {
    let last: Vec<_> = instructions().into_iter().filter(|(stage, _, _)| stage.is_empty()).collect();
    let (_, _, environment) = last.iter().find(|(_, word, _)| word == "ENV").unwrap();
    let value = |name: &str| {
        let found = environment.split_whitespace().find_map(|pair| pair.strip_prefix(&format!("{name}=")));
        found.unwrap_or_else(|| panic!("no {name} in ENV {environment}")).to_string()
    };
    let place = value(tau2::READY_VARIABLE);
    assert_eq!(value(tau2::DATA_VARIABLE), format!("{place}/data"));
    assert_eq!(value("LITELLM_LOCAL_MODEL_COST_MAP"), "True");
    assert!(last.iter().any(|(_, word, rest)| word == "COPY" && *rest == format!("--from=tau2 {place} {place}")));
    let made = instructions().into_iter().filter(|(stage, word, _)| stage == "tau2" && word == "RUN");
    let made: String = made.map(|(_, _, rest)| rest).collect();
    for part in ["venv", "data", "revision"] {
        assert!(made.contains(&format!("{place}/{part}")), "nothing makes {place}/{part}");
    }
    let user = &last.iter().find(|(_, word, _)| word == "USER").unwrap().2;
    assert!(!user.starts_with('0') && !user.starts_with("root"), "the image runs as {user}");
    for (_, word, rest) in instructions().iter().filter(|(_, word, _)| word == "ENV" || word == "ARG") {
        for pair in rest.split_whitespace() {
            assert!(!is_secret_name(pair.split('=').next().unwrap()), "{word} {rest} bakes a secret in");
        }
    }
}

/// The keys of the Compose Specification that may be used here; a misspelt one is not in it.
const TOP: [&str; 1] = ["services"];
const SERVICE: [&str; 12] = [
    "build",
    "image",
    "user",
    "working_dir",
    "volumes",
    "environment",
    "init",
    "cap_drop",
    "security_opt",
    "stop_signal",
    "stop_grace_period",
    "network_mode",
];

fn keys(value: &Value) -> BTreeSet<String> {
    value.as_mapping().unwrap().keys().map(|key| key.as_str().unwrap().to_string()).collect()
}

fn unknown<'a>(found: &'a BTreeSet<String>, known: &[&str]) -> Vec<&'a String> {
    found.iter().filter(|key| !known.contains(&key.as_str())).collect()
}

#[test]
fn compose_mounts_the_whole_experiment_for_its_owner() {
    let compose: Value = serde_yaml::from_str(COMPOSE).unwrap();
    assert_eq!(unknown(&keys(&compose), &TOP), Vec::<&String>::new());
    assert_eq!(keys(&compose["services"]), ["autoharness".to_string()].into());
    let service = &compose["services"]["autoharness"];
    assert_eq!(unknown(&keys(service), &SERVICE), Vec::<&String>::new());
    let volumes = service["volumes"].as_sequence().unwrap();
    assert_eq!(volumes.len(), 1);
    let volume = &volumes[0];
    assert_eq!(unknown(&keys(volume), &["type", "source", "target", "bind"]), Vec::<&String>::new());
    assert_eq!(volume["bind"]["create_host_path"], Value::Bool(false));
    // The same path inside and outside.
    let text = |value: &Value| value.as_str().unwrap().to_string();
    assert_eq!(text(&volume["source"]), "${EXPERIMENT:-.}");
    assert_eq!(text(&volume["target"]), "${EXPERIMENT:-/experiment}");
    assert_eq!(volume["target"], service["working_dir"]);
    assert_eq!(text(&service["user"]), "${AUTOHARNESS_USER:-1000:1000}");
    assert_eq!(service["init"], Value::Bool(true));
    assert_eq!(text(&service["stop_signal"]), "SIGTERM");
    let grace = text(&service["stop_grace_period"]);
    let grace = Duration::from_secs(grace.strip_suffix('s').unwrap().parse().unwrap());
    assert!(grace >= HarborRunner::GRACE + Duration::from_secs(15), "a run would be killed while it tidies up");
}

#[test]
fn compose_hands_on_keys_by_name_and_stores_none() {
    let compose: Value = serde_yaml::from_str(COMPOSE).unwrap();
    let environment = compose["services"]["autoharness"]["environment"].as_sequence().unwrap();
    let names: BTreeSet<&str> = environment.iter().map(|name| name.as_str().unwrap()).collect();
    assert!(names.iter().all(|name| name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')), "{names:?}");
    let example = include_str!("../.env.example").split("# sandboxes").next().unwrap();
    let models = example.lines().filter_map(|line| line.strip_prefix('#')?.split_once('=').map(|(name, _)| name));
    let models: Vec<&str> = models.filter(|name| !name.contains(' ')).collect();
    assert!(models.contains(&"OPENAI_API_KEY"), "{models:?}");
    for name in models {
        assert!(names.contains(name), "compose does not hand on {name}");
    }
}
