//! Harbor's environment types: where a trial's sandbox runs, and what each type needs on this machine.

use crate::provision::need::Need;
use Need::{All, Answers, Any, File, HomeFile, Nothing, Program, Variable};

/// One environment type of Harbor 0.26; the last seven are not in 0.24.
#[derive(Debug, Clone, Copy)]
pub struct Sandbox {
    /// Its name in `env_provider`.
    pub name: &'static str,
    /// The extra of the package `harbor` that brings its SDK, and the module to find then.
    pub sdk: Option<(&'static str, &'static str)>,
    /// What it cannot do without.
    pub need: Need,
    /// What most set-ups need, but not all.
    pub usual: Need,
    /// What to do when something is missing.
    pub fix: &'static str,
    /// Further variables that its SDK reads.
    pub also: &'static [&'static str],
}

const DOCKER: Need = Answers(&["docker", "info"]);
const DOCKER_VARIABLES: &[&str] =
    &["DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY"];
const KUBECONFIG: Need = Any(&[Variable("KUBECONFIG"), HomeFile(".kube/config")]);
const AWS: Need = Any(&[
    All(&[Variable("AWS_ACCESS_KEY_ID"), Variable("AWS_SECRET_ACCESS_KEY")]),
    Variable("AWS_PROFILE"),
    Variable("AWS_ROLE_ARN"),
    Variable("AWS_WEB_IDENTITY_TOKEN_FILE"),
    HomeFile(".aws/credentials"),
]);
const AWS_VARIABLES: &[&str] =
    &["AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"];

/// A row that needs an SDK and something of the user.
const fn cloud(
    name: &'static str,
    sdk: (&'static str, &'static str),
    need: Need,
    fix: &'static str,
    also: &'static [&'static str],
) -> Sandbox {
    Sandbox { name, sdk: Some(sdk), need, usual: Nothing, fix, also }
}

/// A row that needs something on this machine only.
const fn local(name: &'static str, need: Need, fix: &'static str, also: &'static [&'static str]) -> Sandbox {
    Sandbox { name, sdk: None, need, usual: Nothing, fix, also }
}

pub const SANDBOXES: &[Sandbox] = &[
    local("docker", DOCKER, "install Docker, start its daemon, and be in the group `docker`", DOCKER_VARIABLES),
    local(
        "podman",
        All(&[
            Answers(&["podman", "info"]),
            Any(&[Program("podman-compose"), Answers(&["podman", "compose", "version"])]),
        ]),
        "install podman and podman-compose",
        &["CONTAINER_HOST", "DOCKER_HOST"],
    ),
    local(
        "kata",
        All(&[DOCKER, File("/dev/kvm")]),
        "use a Linux machine with KVM, Docker and Kata Containers",
        DOCKER_VARIABLES,
    ),
    local("apple-container", Program("container"), "install https://github.com/apple/container (Apple silicon)", &[]),
    local(
        "singularity",
        Program("singularity"),
        "install Singularity or Apptainer",
        &["SINGULARITY_WORKDIR", "SINGULARITY_CACHEDIR", "APPTAINER_CACHEDIR"],
    ),
    cloud(
        "e2b",
        ("e2b", "e2b"),
        Variable("E2B_API_KEY"),
        "add `E2B_API_KEY=...` to .env (https://e2b.dev)",
        &["E2B_DOMAIN", "E2B_ACCESS_TOKEN"],
    ),
    cloud(
        "daytona",
        ("daytona", "daytona"),
        Any(&[Variable("DAYTONA_API_KEY"), All(&[Variable("DAYTONA_JWT_TOKEN"), Variable("DAYTONA_ORGANIZATION_ID")])]),
        "add `DAYTONA_API_KEY=...` to .env (https://app.daytona.io)",
        &["DAYTONA_API_URL", "DAYTONA_SERVER_URL", "DAYTONA_TARGET"],
    ),
    cloud(
        "modal",
        ("modal", "modal"),
        Any(&[HomeFile(".modal.toml"), All(&[Variable("MODAL_TOKEN_ID"), Variable("MODAL_TOKEN_SECRET")])]),
        "run `modal token new`, or add MODAL_TOKEN_ID and MODAL_TOKEN_SECRET to .env",
        &["MODAL_ENVIRONMENT", "MODAL_PROFILE", "MODAL_CONFIG_PATH", "MODAL_SANDBOX_V2"],
    ),
    cloud(
        "runloop",
        ("runloop", "runloop_api_client"),
        Variable("RUNLOOP_API_KEY"),
        "add `RUNLOOP_API_KEY=...` to .env",
        &["RUNLOOP_BASE_URL"],
    ),
    cloud(
        "gke",
        ("gke", "kubernetes"),
        All(&[Program("gcloud"), KUBECONFIG]),
        "install gcloud, then run `gcloud container clusters get-credentials CLUSTER --region REGION`",
        &["GCP_PROJECT", "GOOGLE_APPLICATION_CREDENTIALS", "CLOUDSDK_CONFIG"],
    ),
    // Harbor has no extra of its own for it; that of gke brings the same package.
    Sandbox {
        name: "ack",
        sdk: Some(("gke", "kubernetes")),
        need: Nothing,
        usual: KUBECONFIG,
        fix: "provide ~/.kube/config or KUBECONFIG, unless this runs inside the cluster",
        also: &["KUBECONFIG"],
    },
    local("openshift", Answers(&["oc", "whoami"]), "install the OpenShift CLI and run `oc login`", &["KUBECONFIG"]),
    Sandbox {
        name: "ec2",
        sdk: Some(("ec2", "boto3")),
        need: Program("ssh"),
        usual: AWS,
        fix: "install the OpenSSH client, and provide AWS credentials unless this machine has a role",
        also: AWS_VARIABLES,
    },
    cloud(
        "novita",
        ("novita", "novita_sandbox"),
        Variable("NOVITA_API_KEY"),
        "add `NOVITA_API_KEY=...` to .env",
        &["NOVITA_DOMAIN", "NOVITA_API_URL", "NOVITA_BASE_URL"],
    ),
    // A profile of the SDK works as well, and only the SDK knows where it is.
    Sandbox {
        name: "langsmith",
        sdk: Some(("langsmith", "langsmith")),
        need: Nothing,
        usual: Any(&[Variable("LANGSMITH_API_KEY"), Variable("LANGCHAIN_API_KEY"), Variable("LANGSMITH_PROFILE")]),
        fix: "add `LANGSMITH_API_KEY=...` to .env, unless an SDK profile is configured",
        also: &["LANGSMITH_ENDPOINT", "LANGSMITH_SANDBOX_API_URL", "LANGSMITH_WORKSPACE_ID"],
    },
    cloud(
        "tensorlake",
        ("tensorlake", "tensorlake"),
        Variable("TENSORLAKE_API_KEY"),
        "add `TENSORLAKE_API_KEY=...` to .env",
        &[],
    ),
    Sandbox {
        name: "islo",
        sdk: Some(("islo", "islo")),
        need: Nothing,
        usual: Variable("ISLO_API_KEY"),
        fix: "add `ISLO_API_KEY=...` to .env",
        also: &["ISLO_API_URL", "ISLO_COMPUTE_URL"],
    },
    Sandbox {
        name: "cwsandbox",
        sdk: Some(("cwsandbox", "cwsandbox")),
        need: Nothing,
        usual: Any(&[Variable("CWSANDBOX_API_KEY"), Variable("WANDB_API_KEY")]),
        fix: "add `CWSANDBOX_API_KEY=...` to .env, unless the SDK is logged in otherwise",
        also: &["CWSANDBOX_BASE_URL", "WANDB_ENTITY", "WANDB_ENTITY_NAME", "WANDB_PROJECT", "WANDB_PROJECT_NAME"],
    },
    cloud(
        "use-computer",
        ("use-computer", "use_computer"),
        Variable("USE_COMPUTER_API_KEY"),
        "add `USE_COMPUTER_API_KEY=...` to .env",
        &["USE_COMPUTER_HOST", "USE_COMPUTER_VERSION", "USE_COMPUTER_SNAPSHOT"],
    ),
    cloud(
        "cua-cloud",
        ("cua", "cua_train"),
        All(&[Variable("CUA_CLIENT_ID"), Variable("CUA_CLIENT_SECRET")]),
        "add CUA_CLIENT_ID and CUA_CLIENT_SECRET to .env",
        &["CUA_TOKEN_URL", "CUA_BASE_URL", "CUA_CLOUD_NAMESPACE"],
    ),
    cloud(
        "blaxel",
        ("blaxel", "blaxel"),
        Any(&[All(&[Variable("BL_WORKSPACE"), Variable("BL_API_KEY")]), HomeFile(".blaxel/config.yaml")]),
        "run `bl login`, or add BL_WORKSPACE and BL_API_KEY to .env",
        &["BL_REGION", "BL_ENV"],
    ),
    Sandbox {
        name: "opensandbox",
        sdk: Some(("opensandbox", "opensandbox")),
        need: Nothing,
        usual: Variable("OPENSANDBOX_DOMAIN"),
        fix: "add `OPENSANDBOX_DOMAIN=...` to .env, unless environment_kwargs has `domain`",
        also: &["OPENSANDBOX_API_KEY"],
    },
    cloud(
        "beam",
        ("beam", "beam"),
        Any(&[Variable("BEAM_TOKEN"), HomeFile(".beam/config.ini")]),
        "run `beam login`, or add `BEAM_TOKEN=...` to .env",
        &["BEAM_GATEWAY_HOST", "BEAM_GATEWAY_PORT", "CONFIG_PATH"],
    ),
    Sandbox {
        name: "skypilot",
        sdk: Some(("skypilot", "sky")),
        need: Nothing,
        usual: Any(&[Variable("SKYPILOT_API_SERVER_ENDPOINT"), HomeFile(".sky/config.yaml")]),
        fix: "run `sky api login -e ENDPOINT`, or add `SKYPILOT_API_SERVER_ENDPOINT=...` to .env",
        also: &["HARBOR_SKYPILOT_REGISTRY", "KUBECONFIG"],
    },
    cloud(
        "hf-sandbox",
        ("hf-sandbox", "huggingface_hub"),
        Any(&[Variable("HF_TOKEN"), Variable("HUGGING_FACE_HUB_TOKEN"), HomeFile(".cache/huggingface/token")]),
        "run `hf auth login`, or add `HF_TOKEN=...` to .env",
        &["HF_HOME", "HF_ENDPOINT", "HF_TOKEN_PATH"],
    ),
    cloud(
        "hyperbrowser",
        ("hyperbrowser", "hyperbrowser"),
        Variable("HYPERBROWSER_API_KEY"),
        "add `HYPERBROWSER_API_KEY=...` to .env",
        &["HYPERBROWSER_BASE_URL"],
    ),
    Sandbox {
        name: "vercel",
        sdk: Some(("vercel", "vercel")),
        need: Nothing,
        usual: Any(&[Variable("VERCEL_TOKEN"), Variable("VERCEL_OIDC_TOKEN")]),
        fix: "add `VERCEL_TOKEN=...` to .env, or run `vercel link && vercel env pull`",
        also: &["VERCEL_TEAM_ID", "VERCEL_PROJECT_ID"],
    },
    cloud(
        "runta",
        ("runta", "runta"),
        Any(&[Variable("RUNTA_TOKEN"), Variable("RUNTA_CONFIG")]),
        "add `RUNTA_TOKEN=...` to .env",
        &[],
    ),
    Sandbox {
        name: "prime",
        sdk: Some(("prime", "prime_sandboxes")),
        need: Nothing,
        usual: Any(&[Variable("PRIME_API_KEY"), HomeFile(".prime/config.json")]),
        fix: "run `prime login`, or add `PRIME_API_KEY=...` to .env",
        also: &["PRIME_TEAM_ID", "PRIME_BASE_URL", "PRIME_API_BASE_URL"],
    },
    Sandbox {
        name: "mosaic",
        sdk: Some(("mosaic", "mosaic_sandbox")),
        need: Nothing,
        usual: Any(&[Variable("MOSAIC_API_KEY"), Variable("MOSAIC_TOKEN")]),
        fix: "run `mos login`",
        also: &["MOSAIC_REGISTRY_USERNAME", "MOSAIC_REGISTRY_PASSWORD"],
    },
    Sandbox {
        name: "smol",
        sdk: Some(("smol", "smol")),
        need: Nothing,
        usual: Nothing,
        fix: "see the documentation of smolmachines",
        also: &["SMOL_API_KEY", "SMOL_URL"],
    },
    Sandbox {
        name: "sbx",
        sdk: Some(("sbx", "python_multipart")),
        need: Nothing,
        usual: Any(&[Program("sbx"), Variable("SBX_TOKEN_FILE")]),
        fix: "install Docker's `sbx`, or name the token file of its cloud in SBX_TOKEN_FILE",
        also: &["SBX_TOKEN_FILE"],
    },
    Sandbox {
        name: "sail",
        sdk: Some(("sail", "sail")),
        need: Nothing,
        usual: Nothing,
        fix: "see the documentation of Sail",
        also: &["SAIL_API_KEY"],
    },
    cloud("kernel", ("kernel", "kernel"), Variable("KERNEL_API_KEY"), "add `KERNEL_API_KEY=...` to .env", &[]),
    cloud(
        "snowflake",
        ("snowflake", "snowflake.sandbox"),
        Program("crane"),
        "install crane (https://github.com/google/go-containerregistry), and configure a Snowflake connection",
        &["SNOWFLAKE_HOME", "SNOWFLAKE_ACCOUNT", "SNOWFLAKE_USER", "SNOWFLAKE_PASSWORD"],
    ),
    // Inside a machine of boxd no key is needed.
    Sandbox {
        name: "boxd",
        sdk: Some(("boxd", "boxd")),
        need: Nothing,
        usual: Any(&[Variable("BOXD_API_KEY"), Variable("BOXD_TOKEN")]),
        fix: "add `BOXD_API_KEY=...` to .env, unless this runs inside a machine of boxd",
        also: &[],
    },
    cloud(
        "superserve",
        ("superserve", "superserve"),
        Variable("SUPERSERVE_API_KEY"),
        "add `SUPERSERVE_API_KEY=...` to .env",
        &[],
    ),
    cloud(
        "aca-sandbox",
        ("aca-sandbox", "azure.containerapps.sandbox"),
        Answers(&["az", "account", "show"]),
        "install the Azure CLI, run `az login` and select a subscription",
        &["AZURE_CONFIG_DIR"],
    ),
];

/// The row of an environment type; `None` for `module:Class` and names we do not know.
pub(crate) fn find(env_provider: &str) -> Option<&'static Sandbox> {
    SANDBOXES.iter().find(|sandbox| sandbox.name == env_provider)
}
