//! Which keys a model needs, by the name litellm knows it by. Shared by every benchmark that calls models through it.

use super::need::{KeyRequirement, Need};
use Need::{All, Any, HomeFile, Nothing, Variable};

/// A provider of models.
struct KeyedProvider {
    /// What stands before the first `/` of a model's name.
    prefixes: &'static [&'static str],
    need: Need,
    /// False when it also works without a key, for example with the role of a cloud machine.
    required: bool,
    /// Further variables it reads: addresses, regions, other names of the same key.
    also: &'static [&'static str],
}

const fn keyed(prefixes: &'static [&'static str], need: Need, also: &'static [&'static str]) -> KeyedProvider {
    KeyedProvider { prefixes, need, required: true, also }
}

/// The user's own server: an address, often without a key.
const fn own_server(prefixes: &'static [&'static str], need: Need, also: &'static [&'static str]) -> KeyedProvider {
    KeyedProvider { prefixes, need, required: false, also }
}

const AWS: &[&str] = &[
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_REGION_NAME",
    "AWS_DEFAULT_REGION",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_BEDROCK_RUNTIME_ENDPOINT",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
];

/// Names of litellm 1.106.
const PROVIDERS: &[KeyedProvider] = &[
    keyed(
        &["openai", "text-completion-openai"],
        Variable("OPENAI_API_KEY"),
        &["OPENAI_API_BASE", "OPENAI_BASE_URL", "OPENAI_ORGANIZATION", "OPENAI_ORG_ID", "OPENAI_PROJECT"],
    ),
    keyed(
        &["anthropic"],
        Any(&[Variable("ANTHROPIC_API_KEY"), Variable("ANTHROPIC_AUTH_TOKEN")]),
        &["ANTHROPIC_API_BASE", "ANTHROPIC_BASE_URL"],
    ),
    keyed(&["gemini"], Any(&[Variable("GEMINI_API_KEY"), Variable("GOOGLE_API_KEY")]), &["GEMINI_API_BASE"]),
    keyed(&["openrouter"], Any(&[Variable("OPENROUTER_API_KEY"), Variable("OR_API_KEY")]), &["OPENROUTER_API_BASE"]),
    keyed(&["deepseek"], Variable("DEEPSEEK_API_KEY"), &["DEEPSEEK_API_BASE"]),
    keyed(&["groq"], Variable("GROQ_API_KEY"), &["GROQ_API_BASE"]),
    keyed(&["mistral"], Variable("MISTRAL_API_KEY"), &["MISTRAL_API_BASE"]),
    keyed(&["codestral"], Variable("CODESTRAL_API_KEY"), &[]),
    keyed(&["xai"], Variable("XAI_API_KEY"), &["XAI_API_BASE"]),
    keyed(
        &["together_ai"],
        Any(&[
            Variable("TOGETHERAI_API_KEY"),
            Variable("TOGETHER_API_KEY"),
            Variable("TOGETHER_AI_API_KEY"),
            Variable("TOGETHER_AI_TOKEN"),
        ]),
        &[],
    ),
    keyed(
        &["fireworks_ai"],
        Any(&[
            Variable("FIREWORKS_AI_API_KEY"),
            Variable("FIREWORKS_API_KEY"),
            Variable("FIREWORKSAI_API_KEY"),
            Variable("FIREWORKS_AI_TOKEN"),
        ]),
        &["FIREWORKS_API_BASE", "FIREWORKS_ACCOUNT_ID"],
    ),
    KeyedProvider {
        prefixes: &["bedrock", "bedrock_converse", "sagemaker", "sagemaker_chat"],
        need: Any(&[
            All(&[Variable("AWS_ACCESS_KEY_ID"), Variable("AWS_SECRET_ACCESS_KEY")]),
            Variable("AWS_BEARER_TOKEN_BEDROCK"),
            Variable("AWS_PROFILE"),
            Variable("AWS_ROLE_ARN"),
            Variable("AWS_WEB_IDENTITY_TOKEN_FILE"),
            Variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
            Variable("AWS_CONTAINER_CREDENTIALS_FULL_URI"),
            HomeFile(".aws/credentials"),
        ]),
        required: false,
        also: AWS,
    },
    keyed(
        &["azure", "azure_text"],
        All(&[
            Any(&[Variable("AZURE_API_KEY"), Variable("AZURE_OPENAI_API_KEY"), Variable("AZURE_AD_TOKEN")]),
            Variable("AZURE_API_BASE"),
            Variable("AZURE_API_VERSION"),
        ]),
        &["AZURE_API_TYPE"],
    ),
    keyed(
        &["azure_ai"],
        All(&[Variable("AZURE_AI_API_KEY"), Variable("AZURE_AI_API_BASE")]),
        &["AZURE_AI_API_VERSION"],
    ),
    KeyedProvider {
        prefixes: &["vertex_ai", "vertex_ai_beta"],
        need: All(&[
            Any(&[Variable("VERTEXAI_PROJECT"), Variable("VERTEX_PROJECT")]),
            Any(&[Variable("VERTEXAI_LOCATION"), Variable("VERTEX_LOCATION")]),
            Any(&[
                Variable("GOOGLE_APPLICATION_CREDENTIALS"),
                Variable("VERTEXAI_CREDENTIALS"),
                Variable("VERTEX_CREDENTIALS"),
                HomeFile(".config/gcloud/application_default_credentials.json"),
            ]),
        ]),
        required: false,
        also: &["VERTEXAI_API_BASE", "VERTEX_API_BASE", "GOOGLE_CLOUD_PROJECT"],
    },
    keyed(&["cerebras"], Variable("CEREBRAS_API_KEY"), &["CEREBRAS_API_BASE"]),
    keyed(&["moonshot"], Variable("MOONSHOT_API_KEY"), &["MOONSHOT_API_BASE"]),
    keyed(&["zai"], Variable("ZAI_API_KEY"), &["ZAI_API_BASE"]),
    keyed(&["minimax"], Variable("MINIMAX_API_KEY"), &["MINIMAX_API_BASE"]),
    keyed(&["dashscope"], Variable("DASHSCOPE_API_KEY"), &["DASHSCOPE_API_BASE"]),
    keyed(
        &["perplexity"],
        Any(&[Variable("PERPLEXITYAI_API_KEY"), Variable("PERPLEXITY_API_KEY")]),
        &["PERPLEXITY_API_BASE"],
    ),
    keyed(&["nvidia_nim"], Variable("NVIDIA_NIM_API_KEY"), &["NVIDIA_NIM_API_BASE"]),
    keyed(&["cohere", "cohere_chat"], Any(&[Variable("COHERE_API_KEY"), Variable("CO_API_KEY")]), &[]),
    keyed(&["huggingface"], Any(&[Variable("HUGGINGFACE_API_KEY"), Variable("HF_TOKEN")]), &["HUGGINGFACE_API_BASE"]),
    keyed(&["replicate"], Any(&[Variable("REPLICATE_API_KEY"), Variable("REPLICATE_API_TOKEN")]), &[]),
    keyed(&["deepinfra"], Variable("DEEPINFRA_API_KEY"), &["DEEPINFRA_API_BASE"]),
    keyed(&["novita"], Variable("NOVITA_API_KEY"), &[]),
    keyed(&["nebius"], Variable("NEBIUS_API_KEY"), &["NEBIUS_API_BASE"]),
    keyed(&["sambanova"], Variable("SAMBANOVA_API_KEY"), &["SAMBANOVA_API_BASE"]),
    keyed(
        &["vercel_ai_gateway"],
        Any(&[Variable("VERCEL_AI_GATEWAY_API_KEY"), Variable("VERCEL_OIDC_TOKEN")]),
        &["VERCEL_AI_GATEWAY_API_BASE"],
    ),
    own_server(&["ollama", "ollama_chat"], Nothing, &["OLLAMA_API_BASE", "OLLAMA_API_KEY"]),
    own_server(&["hosted_vllm"], Variable("HOSTED_VLLM_API_BASE"), &["HOSTED_VLLM_API_KEY"]),
    own_server(&["lm_studio"], Variable("LM_STUDIO_API_BASE"), &["LM_STUDIO_API_KEY"]),
    own_server(
        &["openai_like", "custom_openai"],
        Variable("OPENAI_LIKE_API_BASE"),
        &["OPENAI_LIKE_API_KEY", "OPENAI_API_KEY", "OPENAI_API_BASE"],
    ),
    keyed(
        &["litellm_proxy"],
        All(&[
            Any(&[Variable("LITELLM_PROXY_API_KEY"), Variable("LITELLM_API_KEY")]),
            Any(&[Variable("LITELLM_PROXY_API_BASE"), Variable("LITELLM_API_BASE")]),
        ]),
        &[],
    ),
];

/// Beginnings of names that litellm knows without a prefix, with the prefix that is meant.
const BARE: &[(&str, &str)] = &[
    ("gpt-", "openai"),
    ("chatgpt-", "openai"),
    ("o1", "openai"),
    ("o3", "openai"),
    ("o4", "openai"),
    ("codex-", "openai"),
    ("claude", "anthropic"),
    ("gemini-", "vertex_ai"),
    ("anthropic.", "bedrock"),
];

/// Read by litellm whatever the provider; an organisation's own gateway is configured with them.
const ALWAYS: &[&str] = &["LITELLM_API_KEY", "LITELLM_API_BASE"];

fn provider(model: &str) -> Option<&'static KeyedProvider> {
    let prefix = match model.split_once('/') {
        Some((prefix, _)) => prefix,
        None => BARE.iter().find(|(start, _)| model.starts_with(start))?.1,
    };
    PROVIDERS.iter().find(|provider| provider.prefixes.contains(&prefix))
}

/// What the model needs; `role` names it in findings: `agent model`.
pub(crate) fn requirement(role: &str, model: Option<&str>) -> KeyRequirement {
    let unknown = |fix: String| KeyRequirement { name: role.into(), need: Need::Unknown, required: false, fix };
    let Some(model) = model else {
        return unknown(format!("set `{}:` in experiment_config.yaml", role.replace(' ', "_")));
    };
    let Some(found) = provider(model) else {
        return unknown(format!("see litellm's documentation for the keys of `{model}`, and name them in `pass_env`"));
    };
    let fix = match found.need.variables().as_slice() {
        [] => String::new(),
        [name] => format!("add `{name}=...` to .env, or export it ({model})"),
        _ => format!("add {} to .env, or export it ({model})", found.need),
    };
    KeyRequirement { name: role.into(), need: found.need, required: found.required, fix }
}

/// The variables a program that calls this model through litellm may see. Those of an unknown provider have to be named in
/// `pass_env`.
pub(crate) fn variables(model: Option<&str>) -> Vec<&'static str> {
    let mut names = ALWAYS.to_vec();
    if let Some(found) = model.and_then(provider) {
        names.extend(found.need.variables());
        names.extend(found.also);
    }
    names
}
