//! Environments are installed once, whole or not at all; what is missing is said before money is spent, and never with a
//! secret's value.

#[path = "support/machine.rs"]
mod machine;

use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::Bed;
use autoharness::internals::benchmarks::terminal_bench::canary;
use autoharness::internals::benchmarks::terminal_bench::install::{self as harbor, Wanted, child_variables, keys_for};
use autoharness::internals::benchmarks::terminal_bench::sandbox::SANDBOXES;
use autoharness::internals::config::Environment;
use autoharness::internals::error::{Error, Kind};
use autoharness::internals::provision::python::{self, Range};
use autoharness::internals::provision::python_env::{self, Spec};
use autoharness::internals::provision::{Finding, Level};
use fs_err as fs;
use machine::Machine;

fn spec(requirements: &str) -> Spec {
    let limit = Duration::from_secs(60);
    let python = Range { min: 12, below: 14 };
    Spec { name: "things", requirements: requirements.into(), python, limit, megabytes: 70 }
}

fn wanted(env_provider: &str) -> Wanted<'_> {
    Wanted { env_provider, agent_model: Some("openai/gpt-5.4"), harbor_bin: None }
}

fn environments(machine: &Machine) -> usize {
    fs::read_dir(machine.state.join("env")).map_or(0, Iterator::count)
}

fn lines(error: &Error) -> String {
    error.chain().into_iter().chain(error.hints().iter().cloned()).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn an_environment_is_made_once() {
    let machine = Machine::new();
    machine.python("python3", "3.11.2");
    machine.python("python3.12", "3.12.4");
    let made = machine.provision(&spec("a==1\n")).await.expect("an environment");
    assert_eq!(machine.ran(), ["venv", "pip"]);
    assert_eq!(fs::read_to_string(machine.path("requirements")).expect("a file"), "a==1\n");
    assert_eq!(python_env::find(&spec("a==1\n"), &machine.state), Some(made.clone()));
    assert_eq!(machine.provision(&spec("a==1\n")).await.expect("the same"), made);
    assert_eq!(machine.ran(), [] as [&str; 0]);
    // Other pins are another environment; the old one stays as it is.
    let other = machine.provision(&spec("a==2\n")).await.expect("another environment");
    assert_ne!(other, made);
    assert!(made.python.exists());
    // An interpreter that an upgrade took away: nothing is left to be used.
    fs::remove_file(&made.python).expect("a file");
    assert_eq!(python_env::find(&spec("a==1\n"), &machine.state), None);
}

#[tokio::test]
async fn locked_packages_are_installed_by_their_hashes_and_a_directory_after_them() {
    let machine = Machine::new();
    machine.python("python3.12", "3.12.4");
    let locked = "a==1 \\\n    --hash=sha256:aa\n";
    let spec = spec(&format!("# why\n{locked}\nb @ file:///place/b%20c\n"));
    machine.provision(&spec).await.expect("an environment");
    assert_eq!(machine.ran(), ["venv", "pip", "pip"]);
    let asked = fs::read_to_string(machine.path("pip-arguments")).expect("a file");
    let [first, second] = asked.lines().collect::<Vec<_>>()[..] else { panic!("two calls are expected: {asked}") };
    assert!(first.contains(" --require-hashes ") && !first.contains("--no-deps"), "{first}");
    assert!(second.contains(" --no-deps --no-build-isolation ") && !second.contains("hashes"), "{second}");
    let installed = fs::read_to_string(machine.path("pip-requirements")).expect("a file");
    assert_eq!(installed, format!("# why\n{locked}\nb @ file:///place/b%20c\n"));
    assert!(python_env::find(&spec, &machine.state).is_some());
    // Other files under the same version are another environment, and a wrong file is no environment at all.
    let other = Spec { requirements: spec.requirements.replace("sha256:aa", "sha256:bb"), ..spec.clone() };
    assert_eq!(python_env::find(&other, &machine.state), None);
    fs::write(machine.path("pip-fails"), "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.\n")
        .expect("a file");
    let error = machine.provision(&other).await.expect_err("pip failed");
    assert!(lines(&error).contains("the index gave another file"), "{}", lines(&error));
    assert_eq!(python_env::find(&other, &machine.state), None);
}

#[tokio::test]
async fn an_interrupted_installation_is_done_again() {
    let machine = Machine::new();
    machine.python("python3.12", "3.12.4");
    fs::write(machine.path("pip-fails"), "ERROR: Could not find a version that satisfies a==1\n").expect("a file");
    let error = machine.provision(&spec("a==1\n")).await.expect_err("pip failed");
    assert_eq!(error.kind(), Kind::Infrastructure);
    let text = lines(&error);
    assert!(text.contains("ERROR: Could not find a version that satisfies a==1"), "{text}");
    assert!(text.contains("logs/install-things.log"), "{text}");
    assert!(text.contains("PIP_INDEX_URL"), "{text}");
    assert_eq!(python_env::find(&spec("a==1\n"), &machine.state), None);
    let [half] = &fs::read_dir(machine.state.join("env")).expect("a directory").flatten().collect::<Vec<_>>()[..]
    else {
        panic!("one directory is expected")
    };
    fs::write(half.path().join("half-written"), "").expect("a file");
    fs::remove_file(machine.path("pip-fails")).expect("a file");
    machine.provision(&spec("a==1\n")).await.expect("an environment");
    assert!(!half.path().join("half-written").exists());
    assert_eq!(environments(&machine), 1);
}

#[tokio::test]
async fn a_full_disk_is_told_with_what_the_packages_need() {
    let machine = Machine::new();
    machine.python("python3.12", "3.12.4");
    fs::write(machine.path("pip-fails"), "ERROR: [Errno 28] No space left on device\n").expect("a file");
    let error = machine.provision(&spec("a==1\n")).await.expect_err("pip failed");
    assert!(lines(&error).contains("free some disk space (things needs about 70 MB)."), "{}", lines(&error));
}

#[tokio::test]
async fn an_installation_that_hangs_is_ended() {
    let machine = Machine::new();
    machine.python("python3.12", "3.12.4");
    fs::write(machine.path("pip-hangs"), "").expect("a file");
    let started = Instant::now();
    let short = Spec { limit: Duration::from_secs(2), ..spec("a==1\n") };
    let error = machine.provision(&short).await.expect_err("pip hung");
    assert_eq!(error.kind(), Kind::Infrastructure);
    assert!(lines(&error).contains("not done after 2 s"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(60));
    let left = fs::read_dir(machine.path("processes")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "a process was left running");
    assert_eq!(python_env::find(&short, &machine.state), None);
}

#[tokio::test]
async fn no_python_of_the_right_age_says_what_was_found() {
    let machine = Machine::new();
    machine.python("python3", "3.11.2");
    machine.python("python3.13", "3.14.0");
    machine.program("bin/python3.12", "#!/bin/sh\necho 'pyenv: python3.12: command not found' >&2\nexit 127\n");
    let error = machine.provision(&spec("a==1\n")).await.expect_err("there is no Python");
    assert_eq!(error.kind(), Kind::Usage);
    let text = lines(&error);
    for part in [
        "Python 3.12 to 3.13",
        "bin/python3 is 3.11.2",
        "python3.13 is 3.14.0",
        "python3.12 does not answer",
        "install uv",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(environments(&machine), 0);
}

#[tokio::test]
async fn versions_of_pyenv_are_found_behind_dead_shims() {
    let machine = Machine::new();
    machine.program("bin/python3.12", "#!/bin/sh\nexit 127\n");
    for version in ["3.9.18", "3.12.1", "3.12.10", "3.14.0"] {
        machine.program(&format!("home/.pyenv/versions/{version}/bin/python3"), &machine.python_script(version));
    }
    let environment = machine.environment();
    let found = python::search(Range { min: 12, below: 14 }, &machine.around(&environment)).await.expect("a search");
    let found = found.found.expect("an interpreter");
    assert_eq!(found.version.to_string(), "3.12.10");
}

#[tokio::test]
async fn the_newest_of_pyenv_is_found_behind_a_shim_that_answers_for_an_older_one() {
    let machine = Machine::new();
    machine.python("python3.12", "3.12.1");
    machine.program("bin/python3.13", "#!/bin/sh\nexit 127\n");
    machine.program("home/.pyenv/versions/3.13.0/bin/python3", &machine.python_script("3.13.0"));
    let environment = machine.environment();
    let found = python::search(Range { min: 11, below: 14 }, &machine.around(&environment)).await.expect("a search");
    assert_eq!(found.found.expect("an interpreter").version.to_string(), "3.13.0");
}

#[tokio::test]
async fn uv_is_preferred_and_brings_a_python_where_there_is_none() {
    let machine = Machine::new();
    let python = machine.python_script("3.12.9");
    machine.program("python-of-uv", &python);
    machine.program(
        "bin/uv",
        &format!(
            r#"#!/bin/sh
here='{here}'
case "$*" in
"python find"*) exit 2 ;;
venv*)
    for last; do :; done
    echo "uv $1 $4" >> "$here/ran"
    mkdir -p "$last/bin"; cp "$here/python-of-uv" "$last/bin/python" ;;
"pip install --python "*) echo "uv pip install" >> "$here/ran" ;;
*) exit 9 ;;
esac
"#,
            here = machine.directory.path().display()
        ),
    );
    machine.provision(&spec("a==1\n")).await.expect("an environment");
    assert_eq!(machine.ran(), ["uv venv 3.12", "uv pip install"]);
}

#[tokio::test]
async fn an_installer_sees_its_index_but_no_secret_and_its_log_has_none() {
    let machine = Machine::new()
        .set("OPENAI_API_KEY", "sk-very-secret-1")
        .set("PIP_INDEX_URL", "https://ci:index-password@pypi.example/simple")
        .set("PIP_TARGET", "/somewhere/else");
    machine.python("python3.12", "3.12.4");
    fs::write(machine.path("pip-fails"), "cannot fetch https://ci:index-password@pypi.example/simple\n")
        .expect("a file");
    let error = machine.provision(&spec("a==1\n")).await.expect_err("pip failed");
    let seen = fs::read_to_string(machine.path("pip-environment")).expect("a file");
    assert!(seen.contains("PIP_INDEX_URL=https://ci:index-password@"), "{seen}");
    assert!(!seen.contains("sk-very-secret-1") && !seen.contains("PIP_TARGET"), "{seen}");
    let log = fs::read_to_string(machine.state.join("logs/install-things.log")).expect("a log");
    assert!(log.contains("cannot fetch") && !log.contains("index-password"), "{log}");
    assert!(!lines(&error).contains("index-password"), "{error}");
}

#[tokio::test]
async fn harbor_on_the_path_is_used_only_when_it_will_do() {
    let machine = Machine::new();
    machine.python("python3.12", "3.12.4");
    machine.program("bin/harbor", &format!("#!{}\n", machine.path("bin/python3.12").display()));
    let environment = machine.environment();
    let around = machine.around(&environment);
    for (harbor, mcp, sdk, usable) in [
        ("0.24.0", true, true, true),
        ("0.22.0", true, true, true),
        ("0.3.0", true, true, false),
        ("0.24.0", false, true, false),
        ("0.24.0", true, false, false),
    ] {
        machine.packages(harbor, mcp, sdk);
        let found = harbor::locate(&wanted("e2b"), &around).await.expect("a look");
        assert_eq!(found.is_some(), usable, "{harbor} mcp={mcp} sdk={sdk}");
        if let Some(found) = found {
            assert_eq!((found.harbor, found.version.as_str()), (machine.path("bin/harbor"), harbor));
            assert_eq!(found.python, machine.path("bin/python3.12"));
        }
    }
    // Nobody is told to do by hand what `prepare` does.
    machine.packages("0.3.0", true, true);
    let findings = harbor::findings(&wanted("docker"), &around).await.expect("findings");
    let harbor = findings.iter().find(|finding| finding.name == "harbor").expect("a finding");
    assert_eq!(harbor.level, Level::Warn);
    assert!(harbor.detail.contains("0.3.0"), "{}", harbor.detail);
    assert!(harbor.fix.as_ref().expect("a fix").starts_with("autoharness prepare installs it"), "{harbor:?}");
}

#[tokio::test]
async fn a_harbor_that_was_never_tried_is_a_warning_and_known_as_such() {
    let machine = Machine::new();
    machine.python("python3.12", "3.12.4");
    machine.program("bin/harbor", &format!("#!{}\n", machine.path("bin/python3.12").display()));
    let environment = machine.environment();
    let around = machine.around(&environment);
    for (version, tried) in [
        ("0.24.0", true),
        ("0.25.0", false),
        ("0.26.0", true),
        ("0.23.0", false),
        ("0.26.1", false),
        ("0.27.0", false),
        ("1.0.0", false),
    ] {
        machine.packages(version, true, true);
        let findings = harbor::findings(&wanted("docker"), &around).await.expect("findings");
        let found = findings.iter().find(|finding| finding.name == "harbor").expect("a finding");
        assert_eq!(found.level == Level::Ok, tried, "{found:?}");
        assert_eq!(found.level == Level::Warn && found.detail.contains("never tried"), !tried, "{found:?}");
        let install = harbor::locate(&wanted("docker"), &around).await.expect("a look").expect("an installation");
        assert_eq!(install.untried().is_some(), !tried, "{version}");
        assert_eq!(install.clears_rewards(), !version.starts_with("0.2") || version >= "0.26", "{version}");
    }
}

#[tokio::test]
async fn harbor_is_installed_with_the_extra_of_its_provider() {
    let machine = Machine::new();
    machine.python("python3.12", "3.12.4");
    machine.packages("0.24.0", true, true);
    let environment = machine.environment();
    let around = machine.around(&environment);
    let say = |line: String| machine.said.borrow_mut().push(line);
    assert_eq!(harbor::locate(&wanted("e2b"), &around).await.expect("a look"), None);
    let install = harbor::ensure(&wanted("e2b"), &around, &say).await.expect("an installation");
    assert_eq!(machine.ran(), ["venv", "pip"]);
    let requirements = fs::read_to_string(machine.path("requirements")).expect("a file");
    assert!(requirements.contains("\nharbor[e2b]=="), "{requirements}");
    assert!(requirements.contains("\nlitellm[mcp]=="), "{requirements}");
    assert_eq!(harbor::locate(&wanted("e2b"), &around).await.expect("a look"), Some(install.clone()));
    assert_eq!(harbor::ensure(&wanted("e2b"), &around, &say).await.expect("the same"), install);
    assert_eq!(machine.ran(), [] as [&str; 0]);
    // docker needs no extra, so that is another environment.
    assert_eq!(harbor::locate(&wanted("docker"), &around).await.expect("a look"), None);
    // What was installed is looked at, not believed.
    machine.packages("0.24.0", false, true);
    let error = harbor::ensure(&wanted("docker"), &around, &say).await.expect_err("no mcp");
    assert_eq!(error.kind(), Kind::Infrastructure);
    assert!(lines(&error).contains("pip install 'litellm[mcp]'"), "{error}");
}

#[tokio::test]
async fn a_configured_harbor_is_used_or_refused_but_never_replaced() {
    let machine = Machine::new();
    machine.python("python3.12", "3.12.4");
    let environment = machine.environment();
    let around = machine.around(&environment);
    let named = |path: &str| Wanted { harbor_bin: Some(machine.path(path)), ..wanted("docker") };
    let missing = harbor::locate(&named("venv/bin/harbor"), &around).await.expect_err("there is none");
    assert_eq!(missing.kind(), Kind::Usage);
    // As pip writes programs whose interpreter has a long path.
    let python = machine.path("bin/python3.12").display().to_string();
    let script = format!("#!/bin/sh\n'''exec' \"{python}\" \"$0\" \"$@\"\n' '''\nimport sys\n");
    machine.program("venv/bin/harbor", &script);
    machine.packages("0.24.0", true, true);
    let found = harbor::locate(&named("venv/bin/harbor"), &around).await.expect("a look").expect("an installation");
    assert_eq!(found.python, machine.path("bin/python3.12"));
    machine.packages("0.20.0", false, true);
    let findings = harbor::findings(&named("venv/bin/harbor"), &around).await.expect("findings");
    let fails: Vec<&str> =
        findings.iter().filter(|finding| finding.level == Level::Fail).map(|finding| finding.name.as_str()).collect();
    assert_eq!(fails, ["harbor", "litellm", "docker", "agent model"]);
    let say = |line: String| machine.said.borrow_mut().push(line);
    assert!(harbor::ensure(&named("elsewhere/harbor"), &around, &say).await.is_err());
    assert_eq!(machine.ran(), [] as [&str; 0]);
}

/// For every environment type what it is content with, in alternatives: variables, `~` files below the home, `$` programs
/// that end well.
const NEEDS: [(&str, &[&[&str]]); 38] = [
    ("docker", &[&["$docker"]]),
    ("podman", &[&["$podman", "$podman-compose"]]),
    ("kata", &[]),
    ("apple-container", &[&["$container"]]),
    ("singularity", &[&["$singularity"]]),
    ("e2b", &[&["E2B_API_KEY"]]),
    ("daytona", &[&["DAYTONA_API_KEY"], &["DAYTONA_JWT_TOKEN", "DAYTONA_ORGANIZATION_ID"]]),
    ("modal", &[&["~.modal.toml"], &["MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET"]]),
    ("runloop", &[&["RUNLOOP_API_KEY"]]),
    ("gke", &[&["$gcloud", "KUBECONFIG"], &["$gcloud", "~.kube/config"]]),
    ("ack", &[&["KUBECONFIG"]]),
    ("openshift", &[&["$oc"]]),
    ("ec2", &[&["$ssh", "AWS_PROFILE"], &["$ssh", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]]),
    ("novita", &[&["NOVITA_API_KEY"]]),
    ("langsmith", &[&["LANGSMITH_API_KEY"], &["LANGCHAIN_API_KEY"]]),
    ("tensorlake", &[&["TENSORLAKE_API_KEY"]]),
    ("islo", &[&["ISLO_API_KEY"]]),
    ("cwsandbox", &[&["CWSANDBOX_API_KEY"]]),
    ("use-computer", &[&["USE_COMPUTER_API_KEY"]]),
    ("cua-cloud", &[&["CUA_CLIENT_ID", "CUA_CLIENT_SECRET"]]),
    ("blaxel", &[&["BL_WORKSPACE", "BL_API_KEY"], &["~.blaxel/config.yaml"]]),
    ("opensandbox", &[&["OPENSANDBOX_DOMAIN"]]),
    ("beam", &[&["BEAM_TOKEN"], &["~.beam/config.ini"]]),
    ("skypilot", &[&["SKYPILOT_API_SERVER_ENDPOINT"]]),
    ("hf-sandbox", &[&["HF_TOKEN"]]),
    ("hyperbrowser", &[&["HYPERBROWSER_API_KEY"]]),
    ("vercel", &[&["VERCEL_TOKEN"]]),
    ("runta", &[&["RUNTA_TOKEN"], &["RUNTA_CONFIG"]]),
    ("prime", &[&["PRIME_API_KEY"]]),
    ("mosaic", &[&["MOSAIC_API_KEY"]]),
    ("smol", &[]),
    ("sbx", &[&["$sbx"], &["SBX_TOKEN_FILE"]]),
    ("sail", &[]),
    ("kernel", &[&["KERNEL_API_KEY"]]),
    ("snowflake", &[&["$crane"]]),
    ("boxd", &[&["BOXD_API_KEY"], &["BOXD_TOKEN"]]),
    ("superserve", &[&["SUPERSERVE_API_KEY"]]),
    ("aca-sandbox", &[&["$az"]]),
];

/// Never more than a warning: they also work in ways that cannot be seen from here.
const SOFT: [&str; 13] = [
    "ack",
    "langsmith",
    "islo",
    "cwsandbox",
    "opensandbox",
    "skypilot",
    "vercel",
    "prime",
    "mosaic",
    "smol",
    "sbx",
    "sail",
    "boxd",
];

async fn sandbox_findings(machine: &Machine, provider: &str) -> Vec<Finding> {
    let environment = machine.environment();
    let mut findings = Vec::new();
    for key in keys_for(provider, Some("openai/x")) {
        if key.name == provider {
            findings.push(key.check(&machine.around(&environment)).await.expect("a finding"));
        }
    }
    findings
}

#[tokio::test]
async fn every_environment_type_has_its_needs() {
    assert_eq!(SANDBOXES.len(), NEEDS.len());
    for (provider, alternatives) in NEEDS {
        let bare = sandbox_findings(&Machine::new(), provider).await;
        let fails = bare.iter().any(|finding| finding.level == Level::Fail);
        assert_eq!(fails, !SOFT.contains(&provider), "{provider}: {bare:?}");
        for alternative in alternatives {
            let mut machine = Machine::new();
            for thing in *alternative {
                if let Some(program) = thing.strip_prefix('$') {
                    machine.program(&format!("bin/{program}"), "#!/bin/sh\nexit 0\n");
                } else if let Some(file) = thing.strip_prefix('~') {
                    machine.program(&format!("home/{file}"), "");
                } else {
                    machine = machine.set(thing, "the-secret-value");
                }
            }
            let findings = sandbox_findings(&machine, provider).await;
            let content = findings.iter().all(|finding| finding.level == Level::Ok);
            assert!(content, "{provider} {alternative:?}: {findings:?}");
            assert!(!format!("{findings:?}").contains("the-secret-value"));
            // What decides must reach Harbor.
            let visible = child_variables(provider, None);
            let names = alternative.iter().filter(|thing| !thing.starts_with(['$', '~']));
            names.for_each(|name| assert!(visible.contains(name), "{provider}: {name}"));
            // All of an alternative is needed.
            if let [first, _, ..] = alternative
                && !first.starts_with('$')
            {
                let half = sandbox_findings(&Machine::new().set(first, "the-secret-value"), provider).await;
                assert!(half.iter().any(|finding| finding.level != Level::Ok), "{provider} with {first} only");
            }
        }
    }
}

#[tokio::test]
async fn a_daemon_that_does_not_answer_is_missing() {
    let machine = Machine::new();
    machine.program("bin/docker", "#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2\nexit 1\n");
    let [docker] = &sandbox_findings(&machine, "docker").await[..] else { panic!("one finding is expected") };
    assert_eq!((docker.level, docker.detail.as_str()), (Level::Fail, "lacks an answer of `docker info`"));
}

#[test]
fn harbor_sees_the_keys_it_needs_and_no_others() {
    let names = child_variables("daytona", Some("anthropic/claude-opus-4-6"));
    for name in ["DAYTONA_API_KEY", "DAYTONA_TARGET", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "HARBOR_TELEMETRY"] {
        assert!(names.contains(&name), "{name}");
    }
    for name in ["OPENAI_API_KEY", "E2B_API_KEY", "AWS_SECRET_ACCESS_KEY"] {
        assert!(!names.contains(&name), "{name}");
    }
}

#[test]
fn a_model_needs_the_key_of_its_provider() {
    let environment = |name: &str| {
        let directory = tempfile::tempdir().expect("a directory");
        let variables = [(OsString::from(name), OsString::from("the-secret-value"))];
        Environment::with_process(variables, directory.path()).expect("an environment")
    };
    let level = |model: &str, name: &str| {
        let keys = keys_for("module:Class", Some(model));
        let [model] = &keys[..] else { panic!("one key is expected") };
        model.check_quickly(&environment(name), Path::new("/")).level
    };
    for (model, name) in [
        ("openai/gpt-5.4", "OPENAI_API_KEY"),
        ("gpt-5.4", "OPENAI_API_KEY"),
        ("o3-mini", "OPENAI_API_KEY"),
        ("anthropic/claude-opus-4-6", "ANTHROPIC_API_KEY"),
        ("claude-opus-4-6", "ANTHROPIC_API_KEY"),
        ("gemini/gemini-3-pro", "GEMINI_API_KEY"),
        ("gemini/gemini-3-pro", "GOOGLE_API_KEY"),
        ("openrouter/anthropic/claude-opus-4-6", "OPENROUTER_API_KEY"),
        ("deepseek/deepseek-chat", "DEEPSEEK_API_KEY"),
        ("groq/llama", "GROQ_API_KEY"),
        ("mistral/large", "MISTRAL_API_KEY"),
        ("xai/grok-4", "XAI_API_KEY"),
        ("together_ai/x", "TOGETHERAI_API_KEY"),
        ("fireworks_ai/x", "FIREWORKS_AI_API_KEY"),
    ] {
        assert_eq!(level(model, name), Level::Ok, "{model} with {name}");
        assert_eq!(level(model, "UNRELATED"), Level::Fail, "{model}");
    }
    // Works with the role of a machine too, which nobody can see by name.
    assert_eq!(level("bedrock/claude", "AWS_PROFILE"), Level::Ok);
    assert_eq!(level("bedrock/claude", "UNRELATED"), Level::Warn);
    // All three are needed.
    assert_eq!(level("azure/my-deployment", "AZURE_API_KEY"), Level::Fail);
    assert_eq!(level("ollama/llama", "UNRELATED"), Level::Ok);
    assert_eq!(level("brand-new-provider/x", "UNRELATED"), Level::Warn);
}

#[test]
fn doctor_and_prepare_name_missing_keys_and_never_print_one() {
    let bed = Bed::table(serde_json::json!({}), "");
    bed.write("experiment_config.yaml", "benchmark: terminal-bench\nenv_provider: e2b\nagent_model: openai/gpt-5.4\n");
    bed.write(".env", "OPENAI_API_KEY=sk-of-the-file-1\n");
    let doctor = bed.run(&["doctor"]).expect(2).says("e2b            lacks E2B_API_KEY").says("has OPENAI_API_KEY");
    assert!(!doctor.stdout.contains("open to other users"), "doctor itself left the state open: {}", doctor.stdout);
    assert!(!doctor.stdout.contains("sk-of-the-file-1") && !doctor.stderr.contains("sk-of-the-file-1"));
    // Nothing is downloaded for an experiment that cannot run.
    bed.run(&["prepare"]).expect(2).warns("E2B_API_KEY");
    assert!(!bed.state().join("env").exists());
}

/// Downloads some 300 MB: `cargo test --test all -- --ignored provision::`.
#[tokio::test]
#[ignore = "installs Harbor from PyPI"]
async fn the_real_harbor_is_installed_and_the_template_passes_the_canary() {
    let machine = Machine::new();
    let environment = Environment::with_process(std::env::vars_os(), &machine.path("home")).expect("an environment");
    let around = machine.around(&environment);
    let say = |line: String| machine.said.borrow_mut().push(line);
    let provider = std::env::var("HARBOR_PROVIDER").unwrap_or_else(|_| "docker".into());
    let wanted = Wanted { env_provider: &provider, agent_model: Some("openai/x"), harbor_bin: None };
    let install = harbor::ensure(&wanted, &around, &say).await.unwrap_or_else(|error| panic!("{}", lines(&error)));
    let staging = machine.path("staging");
    fs::create_dir_all(staging.join("agent")).expect("a directory");
    let agent = |text: &str| fs::write(staging.join("agent/agent.py"), text).expect("an agent");
    agent(include_str!("../agent/templates/terminal_bench.py"));
    let finding = canary::canary(&install, &staging, true, None, &around).await;
    let finding = finding.unwrap_or_else(|error| panic!("{}", lines(&error)));
    assert_eq!(finding.level, Level::Ok, "{finding:?}");
    for (text, part) in [
        ("import os\nos._exit(0)\n", "ended the process"),
        ("import no_such_module\n", "cannot be imported"),
        ("class HarnessAgent:\n    pass\n", "cannot be constructed"),
    ] {
        agent(text);
        let error = canary::canary(&install, &staging, false, None, &around).await.expect_err(text);
        assert_eq!(error.kind(), Kind::Usage, "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }
}
