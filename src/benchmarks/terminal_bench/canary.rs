//! The canary: one model call with a tool through the agent's own packages, answered by a stub on loopback. No key is
//! used and nothing is paid, so that a broken installation shows before a baseline of zeros does.

use std::ffi::OsString;
use std::path::Path;

use serde::Deserialize;
use serde_json::json;

use super::install::TELEMETRY;
use super::runner::HarborInstall;
use crate::benchmarks::fencing::Fencing;
use crate::error::{Code, Error, Result};
use crate::process::{Command, Limits, run_captured};
use crate::provision::{Finding, Surroundings};
use crate::store::atomic;

const PROGRAM: &str = include_str!("helper/canary.py");

/// Each of its two calls may take this long, in seconds; the first one imports everything.
const CALL_SECONDS: u64 = 120;
/// All of it, in seconds.
const LIMIT_SECONDS: u64 = 360;

#[derive(Debug, Deserialize)]
struct CanaryAnswer {
    ok: bool,
    stage: Option<String>,
    error: Option<String>,
    hint: Option<String>,
    harbor: Option<String>,
    litellm: Option<String>,
    seconds: f64,
}

/// Runs the canary on a staged copy of the experiment. `strict`: the agent is the template, so that even a failure of its own
/// loop is a fault of the set-up; a user's own agent may need more of a sandbox than the canary simulates. `behind`: the fence
/// that the agent runs behind.
///
/// # Errors
/// Usage when the agent cannot be imported or constructed, or a package is missing; infrastructure when the stub cannot
/// be reached through the packages, or nothing ends in time; `Interrupted`.
pub async fn canary(
    install: &HarborInstall,
    staging: &Path,
    strict: bool,
    behind: Option<&Fencing>,
    around: &Surroundings<'_>,
) -> Result<Finding> {
    let program = around.state.join("embedded/terminal_bench_canary.py");
    // Other content there was tampered with, or belongs to another version.
    if fs_err::read(&program).ok().as_deref() != Some(PROGRAM.as_bytes()) {
        atomic::replace(&program, PROGRAM.as_bytes())?;
    }
    let directory = tempfile::Builder::new().prefix(".tmp-canary-").tempdir_in(around.state)?;
    let extra: [(OsString, OsString); 2] = [("PYTHONPATH".into(), staging.into()), (TELEMETRY.into(), "0".into())];
    let mut command = Command::new(&install.python, directory.path()).env(around.environment.for_child(&[], &extra));
    command.args = vec![program.into(), "--run".into(), "--timeout".into(), CALL_SECONDS.to_string().into()];
    command
        .args
        .extend(behind.into_iter().flat_map(|fence| ["--behind".into(), json!(fence.words).to_string().into()]));
    let said = run_captured(around.supervisor, command, Limits::seconds(LIMIT_SECONDS), around.cancel).await?;
    let text = said.text();
    let Some(answer) = text.lines().next_back().and_then(|line| serde_json::from_str::<CanaryAnswer>(line).ok()) else {
        return Err(Error::usage(format!("the agent file ended the process that imported it ({})", said.exit))
            .code(Code::PreflightFailed)
            .hint("it must not call sys.exit() or os._exit() when it is imported or constructed."));
    };
    judge(answer, install, strict)
}

fn judge(answer: CanaryAnswer, install: &HarborInstall, strict: bool) -> Result<Finding> {
    if answer.ok {
        let versions =
            format!("harbor {}, litellm {}", answer.harbor.unwrap_or_default(), answer.litellm.unwrap_or_default());
        return Ok(Finding::ok(
            "canary",
            format!("a model call with a tool works ({versions}, {:.0} s)", answer.seconds),
        ));
    }
    let said = answer.error.unwrap_or_else(|| "no reason given".into());
    let stage = answer.stage.unwrap_or_default();
    let missing_package = said.to_lowercase().contains("no module named");
    if stage == "packages" || (stage == "model_call" && missing_package) {
        return Err(Error::usage(format!("Harbor's environment cannot call a model with tools: {said}"))
            .code(Code::EnvironmentNotReady)
            .hint(format!("{} -m pip install 'litellm[mcp]'", install.python.display())));
    }
    let hint = answer.hint;
    let with_hint = |error: Error| match &hint {
        Some(hint) => error.hint(hint.clone()),
        None => error,
    };
    match stage.as_str() {
        "import" | "construct" => {
            let doing = if stage == "import" { "imported" } else { "constructed" };
            let error = Error::usage(format!("the agent cannot be {doing}: {said}")).code(Code::PreflightFailed);
            Err(with_hint(error).hint("fix the agent file, or start over with `autoharness prepare --reset-agent`."))
        }
        "run" if !strict => Ok(Finding::warn(
            "canary",
            format!("the agent did not get through a pretended task: {said}"),
            hint.unwrap_or_else(|| {
                "look at it before you pay for a baseline; a sandbox of its own kind may be the reason".into()
            }),
        )),
        _ => Err(with_hint(
            Error::infrastructure(format!("the canary failed ({stage}): {said}")).code(Code::BenchmarkFailed),
        )
        .hint("`autoharness doctor` shows what is installed; nothing was spent.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(stage: &str, error: &str) -> CanaryAnswer {
        let text = format!(
            r#"{{"ok": false, "stage": "{stage}", "error": "{error}", "hint": null, "harbor": "0.24.0",
            "litellm": "1.106.2", "python": "3.12.1", "seconds": 1.5}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn whose_fault_it_is_decides_what_the_user_reads() {
        let install =
            HarborInstall { harbor: "/e/bin/harbor".into(), python: "/e/bin/python".into(), version: "1".into() };
        let judge = |stage: &str, error: &str, strict| judge(answer(stage, error), &install, strict);
        let packages = judge("packages", "no module named 'mcp'", false).unwrap_err();
        assert_eq!(
            (packages.exit_code(), packages.hints()),
            (2, &["/e/bin/python -m pip install 'litellm[mcp]'".to_string()][..])
        );
        let call = judge("model_call", "ImportError: No module named 'mcp'", false).unwrap_err();
        assert_eq!(call.hints(), packages.hints());
        let import = judge("import", "KeyError: 'X'", false).unwrap_err();
        assert!(import.to_string().starts_with("the agent cannot be imported: KeyError"), "{import}");
        assert_eq!(judge("model_call", "Timeout", false).unwrap_err().exit_code(), 3);
        assert_eq!(judge("run", "AttributeError", false).unwrap().level, crate::provision::Level::Warn);
        assert_eq!(judge("run", "AttributeError", true).unwrap_err().exit_code(), 3);
    }
}
