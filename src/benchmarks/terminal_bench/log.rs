//! Reads from Harbor's output what its results do not say: whose fault a broken job is, and why no model answered.

use std::path::Path;

use super::reason;

/// How many bytes at the end of the log are read.
const TAIL: u64 = 256 * 1024;

/// The end of Harbor's log. Empty when there is none.
pub(super) fn tail(path: &Path) -> String {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let Ok(mut file) = fs_err::File::open(path) else { return String::new() };
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    let mut bytes = Vec::new();
    let _ = file.seek(SeekFrom::Start(length.saturating_sub(TAIL)));
    let _ = file.take(TAIL).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What our side of the fence prints when it cannot do its part. An agent that prints the same gains nothing: nothing is run.
const OF_THE_FENCE: [&str; 2] = ["the fence around the agent cannot be built", "the process that starts agents"];

/// The number in `Dry run OK - 5 trial(s); nothing was run.`; `None` when the dry run did not say that.
pub(super) fn trials_of_dry_run(output: &str) -> Option<Option<u64>> {
    let line = output.lines().rev().find(|line| line.contains("Dry run OK"))?;
    Some(line.split_whitespace().find_map(|word| word.parse().ok()))
}

/// Why a broken job is the agent's own doing, when it is: Harbor imports and constructs it, or what stands in for it, in its
/// own process. `staging` is the directory whose files are the agent's. The answer may quote the agent.
pub(super) fn agent_to_blame(log: &str, staging: &Path) -> Option<String> {
    if log.lines().rev().take(5).any(|line| OF_THE_FENCE.iter().any(|said| line.contains(said))) {
        return None;
    }
    // Only the traceback that ended the process: earlier ones were survived.
    let start = ["Traceback (most recent call last)", "Exception Group Traceback (most recent call last)"]
        .iter()
        .filter_map(|head| log.rfind(head))
        .max();
    let last = log.trim_end().lines().next_back().unwrap_or_default().trim();
    let Some(start) = start else {
        // How Harbor says that a class or module is not there.
        let names = |line: &str| line.contains("HarnessAgent") || line.contains("terminal_bench.fenced_agent");
        let blames = |line: &&str| names(line) && !line.starts_with("Skipped");
        return log.lines().rev().take(5).find(blames).map(|line| line.trim().to_owned());
    };
    let traceback = &log[start..];
    if !ends_the_log(log, start) {
        return None;
    }
    let staged = staging.to_string_lossy();
    let own = traceback.contains(&format!("\"{staged}/"))
        || ["create_agent_from_import_path", "_import_agent_class"].iter().any(|call| traceback.contains(call));
    let message = || {
        let mut lines = traceback.lines().map(|line| line.trim_matches([' ', '|', '+', '-']));
        lines.rfind(|line| !line.is_empty() && !line.starts_with('^') && !is_drawn(line)).unwrap_or(last).to_owned()
    };
    own.then(message)
}

/// Whether nothing follows the traceback that begins at `start`, so that it ended the process. More output follows one that
/// an agent only logged.
fn ends_the_log(log: &str, start: usize) -> bool {
    // In an exception group everything is framed; otherwise a line without indentation is the exception itself.
    let framed = log[..start].rsplit('\n').next().is_some_and(|before| before.contains('|'));
    let plain = |line: &&str| !line.trim().is_empty() && !line.starts_with([' ', '\t', '|', '+']);
    let mut rest = log[start..].lines().skip(1).filter(plain);
    (framed || rest.next().is_some()) && rest.all(is_drawn)
}

/// The bar that Harbor draws on stdout: it arrives when its buffer is written out, at the very end.
fn is_drawn(line: &str) -> bool {
    line.contains("Running trials...") || line.contains('\u{2501}')
}

/// The last non-empty line, for a job that did not even start.
pub(super) fn last_words(log: &str) -> Option<&str> {
    log.lines().rev().map(|line| line.trim_matches([' ', '|', '+', '-'])).find(|line| !line.is_empty())
}

/// The likely reason why no model answered, for agents that swallow the exception.
pub(super) fn model_trouble(log: &str) -> Option<&'static str> {
    let lower = log.to_lowercase();
    let signs = [
        ("no module named 'mcp'", reason::MCP),
        ("insufficient_quota", reason::QUOTA),
        ("authenticationerror", reason::AUTHENTICATION),
        ("invalid_api_key", reason::AUTHENTICATION),
        ("401 unauthorized", reason::AUTHENTICATION),
        ("error code: 401", reason::AUTHENTICATION),
        ("permissiondenied", reason::AUTHENTICATION),
        ("llm provider not provided", reason::MODEL),
        ("model_not_found", reason::MODEL),
        ("ratelimiterror", reason::RATE),
        ("error code: 429", reason::RATE),
        ("apiconnectionerror", reason::NETWORK),
        ("connection error", reason::NETWORK),
        ("internalservererror", reason::API),
    ];
    signs.iter().find(|(sign, _)| lower.contains(sign)).map(|(_, reason)| *reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONSTRUCTOR: &str = "\
Traceback (most recent call last):
  File \"/venv/site-packages/harbor/agents/x.py\", line 3, in y
KeyError: 'an earlier one that was survived'
  + Exception Group Traceback (most recent call last):
  |   File \"/venv/site-packages/harbor/trial/trial.py\", line 1196, in _init_agent
  | ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception)
  +-+---------------- 1 ----------------
    | Traceback (most recent call last):
    |   File \"/venv/site-packages/harbor/agents/factory.py\", line 196, in create_agent_from_import_path
    |     return agent_class(logs_dir=logs_dir)
    |   File \"/state/staging/abc/agent/agent.py\", line 10, in __init__
    |     def __init__(self,*a,**k): raise ValueError('ctor bad')
    |                                ^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    | ValueError: ctor bad
    +------------------------------------
";

    #[test]
    fn a_constructor_or_an_import_that_fails_is_the_agents_fault() {
        let staging = Path::new("/state/staging/abc");
        assert_eq!(agent_to_blame(CONSTRUCTOR, staging).as_deref(), Some("ValueError: ctor bad"));
        let import = "Traceback (most recent call last):\n  File \"/state/staging/abc/agent/agent.py\", line 1\n    def (\n\
            \x20       ^\nSyntaxError: invalid syntax\n";
        assert_eq!(agent_to_blame(import, staging).as_deref(), Some("SyntaxError: invalid syntax"));
        let missing = "Failed to import module 'agent.agent': cannot find HarnessAgent\n";
        assert!(agent_to_blame(missing, staging).is_some());
        let behind =
            "Failed to import module 'terminal_bench.fenced_agent': the agent cannot be imported: KeyError: 'x'\n";
        assert!(agent_to_blame(behind, staging).is_some());
        let fence = behind.replace("KeyError: 'x'", "RuntimeError: the fence around the agent cannot be built");
        assert_eq!(agent_to_blame(&fence, staging), None);
    }

    #[test]
    fn a_missing_package_of_the_provider_is_not() {
        let staging = Path::new("/state/staging/abc");
        let sdk = "Traceback (most recent call last):\n  File \"/venv/site-packages/harbor/environments/e2b.py\", line 9, in \
            __init__\n    raise MissingExtraError\nMissingExtraError: install harbor[e2b]\n";
        assert_eq!(agent_to_blame(sdk, staging), None);
        assert_eq!(agent_to_blame("E2B_API_KEY is not set\n", staging), None);
        // The job survived it, so it is not why the job ended.
        let survived = format!(
            "{}\nTraceback (most recent call last):\n  File \"/venv/x.py\", line 1\nOSError: full\n",
            CONSTRUCTOR
        );
        assert_eq!(agent_to_blame(&survived, staging), None);
    }

    #[test]
    fn a_traceback_that_the_agent_only_logged_blames_nobody() {
        let staging = Path::new("/state/staging/abc");
        let logged = "Traceback (most recent call last):\n  File \"/state/staging/abc/agent/agent.py\", line 9, in run\n    \
            x()\nValueError: caught\n";
        assert!(agent_to_blame(logged, staging).is_some(), "the last thing that was said");
        assert_eq!(agent_to_blame(&format!("{logged}step 7: ls\n"), staging), None);
        assert_eq!(agent_to_blame(&format!("{logged}Error: no space left on device\n"), staging), None);
        // Harbor's own output may come late.
        let bar = "\u{2826} 0/1 Running trials...    0:00:00 -:--:--\n";
        assert_eq!(agent_to_blame(&format!("{logged}{bar}"), staging).as_deref(), Some("ValueError: caught"));
        assert_eq!(agent_to_blame(&format!("{CONSTRUCTOR}{bar}"), staging).as_deref(), Some("ValueError: ctor bad"));
        // A text of several lines.
        let long = "Traceback (most recent call last):\n  File \"/state/staging/abc/agent/agent.py\", line 9, in x\n\
            ValidationError: 2 errors\n  name\n    Field required\n";
        assert!(agent_to_blame(long, staging).is_some());
    }

    #[test]
    fn a_dry_run_is_read() {
        assert_eq!(trials_of_dry_run("hint\nDry run OK \u{2014} 12 trial(s); nothing was run.\n"), Some(Some(12)));
        assert_eq!(trials_of_dry_run("Dry run OK \u{2014} trial count unknown; nothing was run.\n"), Some(None));
        assert_eq!(trials_of_dry_run("Dry run failed: no\n"), None);
    }

    #[test]
    fn swallowed_model_errors_are_recognised() {
        let mcp = "litellm.APIConnectionError: No module named 'mcp'";
        assert_eq!(model_trouble(mcp), Some(reason::MCP));
        assert_eq!(model_trouble("litellm.AuthenticationError: OpenAIException"), Some(reason::AUTHENTICATION));
        assert_eq!(model_trouble("litellm.RateLimitError: slow down"), Some(reason::RATE));
        assert_eq!(model_trouble("step 1: ls"), None);
    }
}
