//! What an exception's class and traceback claim: trouble of the model's provider, or of the sandbox.

use super::file::{ExceptionInfo, TrialFile};
use super::reason;

/// Why the model could not be asked, when an exception says that it could not.
pub(super) fn provider_failure(info: &ExceptionInfo) -> Option<&'static str> {
    let (kind, message) = (info.exception_type.as_str(), info.exception_message.as_str());
    match kind {
        "AgentAuthenticationError" => return Some(reason::AUTHENTICATION),
        "ModelNotFoundError" | "ApiProviderResourceNotFoundError" => return Some(reason::MODEL),
        "NetworkConnectionError" | "ApiConnectionError" | "ApiConnectionClosedError" => return Some(reason::NETWORK),
        "ApiRateLimitError" => return Some(reason::RATE),
        "ApiUsageLimitError" => return Some(reason::QUOTA),
        _ if kind.starts_with("Api") && kind.ends_with("Error") || kind == "UnknownApiError" => {
            return Some(if message.contains("No module named 'mcp'") { reason::MCP } else { reason::API });
        }
        _ => {}
    }
    // An agent that does not translate its exceptions raises those of the client library.
    let frame = last_file(&info.exception_traceback)?;
    if !CLIENTS.iter().any(|client| frame.contains(&format!("/site-packages/{client}/"))) {
        return None;
    }
    match kind {
        "AuthenticationError" | "PermissionDeniedError" => Some(reason::AUTHENTICATION),
        "NotFoundError" => Some(reason::MODEL),
        "APIConnectionError" if message.contains("No module named 'mcp'") => Some(reason::MCP),
        "APIConnectionError" | "APITimeoutError" | "Timeout" => Some(reason::NETWORK),
        "RateLimitError" => Some(reason::RATE),
        "BudgetExceededError" => Some(reason::QUOTA),
        "APIError" | "APIStatusError" | "InternalServerError" | "ServiceUnavailableError" | "OverloadedError" => {
            Some(reason::API)
        }
        _ => None,
    }
}

/// The class's name, when it is one of Harbor's or of a client library: such a name carries nothing of a conversation.
pub(super) fn known_claim(kind: &str) -> Option<&'static str> {
    [
        "APIConnectionError",
        "APIError",
        "APIStatusError",
        "APITimeoutError",
        "AgentAuthenticationError",
        "ApiConnectionClosedError",
        "ApiConnectionError",
        "ApiError",
        "ApiInternalServerError",
        "ApiOverloadedError",
        "ApiProviderResourceNotFoundError",
        "ApiRateLimitError",
        "ApiResponseStalledError",
        "ApiUsageLimitError",
        "AuthenticationError",
        "BudgetExceededError",
        "InternalServerError",
        "ModelNotFoundError",
        "NetworkConnectionError",
        "NotFoundError",
        "OverloadedError",
        "PermissionDeniedError",
        "RateLimitError",
        "ServiceUnavailableError",
        "Timeout",
        "UnknownApiError",
    ]
    .into_iter()
    .find(|known| *known == kind)
}

/// Client libraries of models.
const CLIENTS: [&str; 4] = ["litellm", "openai", "anthropic", "google/genai"];

const SANDBOX_CLIENTS: [&str; 20] = [
    "beam",
    "beta9",
    "blaxel",
    "boto3",
    "botocore",
    "daytona",
    "daytona_sdk",
    "docker",
    "e2b",
    "hyperbrowser",
    "islo",
    "kubernetes",
    "langsmith",
    "modal",
    "novita_sandbox",
    "prime_sandboxes",
    "runloop_api_client",
    "sky",
    "tensorlake",
    "vercel",
];

/// Whether the sandbox failed to carry out a command of the agent. Failures that an agent can provoke are not the sandbox's:
/// a wrong argument, a missing file, a time limit of its own choice, memory that its command used up.
pub(super) fn sandbox_failed(file: &TrialFile, info: &ExceptionInfo) -> bool {
    let kind = info.exception_type.as_str();
    let own_limit = info.exception_message.starts_with("Command timed out")
        || kind.contains("Timeout") && !kind.contains("Connect")
        || kind.contains("OutOfMemory")
        || kind.contains("MemoryLimit");
    let carried_out =
        frames(&info.exception_traceback).any(|(path, function)| function == "exec" && is_sandbox(file, path));
    carried_out && !own_limit && !MISUSE.contains(&kind) && raised_by_sandbox(file, info)
}

/// Exceptions of Python that mean a wrong call.
const MISUSE: [&str; 12] = [
    "AssertionError",
    "AttributeError",
    "FileNotFoundError",
    "IndexError",
    "IsADirectoryError",
    "KeyError",
    "NameError",
    "NotADirectoryError",
    "RecursionError",
    "TypeError",
    "UnicodeEncodeError",
    "ValueError",
];

/// Whether the exception was raised in an environment of Harbor, in the configured one, or in a provider's library.
pub(super) fn raised_by_sandbox(file: &TrialFile, info: &ExceptionInfo) -> bool {
    last_file(&info.exception_traceback).is_some_and(|path| {
        is_sandbox(file, path)
            || SANDBOX_CLIENTS.iter().any(|client| path.contains(&format!("/site-packages/{client}/")))
            // Libraries with which these make their requests.
            || ["httpx", "httpcore", "aiohttp", "grpc", "grpclib"]
                .iter()
                .any(|client| path.contains(&format!("/site-packages/{client}/")))
    })
}

fn is_sandbox(file: &TrialFile, path: &str) -> bool {
    let module = file.config.environment.import_path.as_deref().and_then(|import| import.split(':').next());
    path.contains("/harbor/environments/")
        || module.is_some_and(|module| path.ends_with(&format!("/{}.py", module.replace('.', "/"))))
}

/// File and function of every frame of the last traceback in a text, outermost first.
fn frames(traceback: &str) -> impl Iterator<Item = (&str, &str)> {
    let start = traceback.rfind("Traceback (most recent call last)").unwrap_or(0);
    traceback[start..].lines().filter_map(|line| {
        let (path, rest) = line.trim_start_matches([' ', '|']).strip_prefix("File \"")?.split_once('"')?;
        Some((path, rest.rsplit_once(", in ").map_or("", |(_, function)| function.trim())))
    })
}

/// The file of the innermost frame.
fn last_file(traceback: &str) -> Option<&str> {
    frames(traceback).last().map(|(path, _)| path)
}
