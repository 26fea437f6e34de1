//! Reasons that callers compare with.

/// A reward that the tests cannot have given.
pub const FORGED: &str =
    "reward.json lies beside what the task's tests write: the agent put it there, which counts as 0";
/// A provider's failure that only the agent saw.
pub const UNCONFIRMED: &str = "the agent blames the model's provider, but no trouble was seen from here when its trial \
                               ended: counted as the agent's own error";
pub const SANDBOX: &str = "the sandbox failed while the agent was at work";
/// An exception of the agent.
pub const RAISED: &str = "run() raised an exception";
/// The tests left no output.
pub const NOT_GRADED: &str = "there is a reward, but no output of tests: grading was bypassed; not counted";
pub const ENDED_HARBOR: &str = "the agent ended Harbor's process (sys.exit or the like)";
pub const CANCELLED: &str = "the trial was cut off from outside";
pub const AUTHENTICATION: &str = "the model's provider refuses the key (401 or 403)";
pub const MODEL: &str = "the model's provider does not know the model (404), or none was named";
pub const RATE: &str = "the model's provider limits the rate (429)";
/// 402, quota.
pub const QUOTA: &str = "the quota or budget at the model's provider is used up";
pub const NETWORK: &str = "the model's provider could not be reached";
/// `No module named 'mcp'`: for litellm an extra, <https://github.com/BerriAI/litellm/pull/38399>.
pub const MCP: &str = "litellm cannot call models with tools because the Python package `mcp` is missing";
/// 5xx and everything else.
pub const API: &str = "calls of the model failed on the provider's side";
