//! What this package's tests, benches and examples may use. Other code should not: the product is the program, and nothing here is
//! stable.

pub mod benchmarks {
    pub use crate::benchmarks::{ALL, find, load, sections};

    pub mod agent_python {
        pub use crate::benchmarks::agent_python::AgentPython;
    }
    pub mod bird_interact {
        pub use crate::benchmarks::bird_interact::BirdInteractSettings;
    }
    pub mod runner {
        pub use crate::benchmarks::runner::{BenchmarkRunner, RunEvent, RunReport, RunRequest, TaskInfo};
    }
    pub mod tau_bench {
        pub use crate::benchmarks::tau_bench::TauBenchSettings;
        pub mod install {
            pub use crate::benchmarks::tau_bench::install::{DATA_VARIABLE, PYTHON, READY_VARIABLE};
        }
    }
    pub mod terminal_bench {
        pub mod canary {
            pub use crate::benchmarks::terminal_bench::canary::canary;
        }
        pub mod file {
            pub use crate::benchmarks::terminal_bench::file::TrialFile;
        }
        pub mod install {
            pub use crate::benchmarks::terminal_bench::install::{
                Wanted, child_variables, ensure, findings, keys_for, locate,
            };
        }
        pub mod job {
            pub use crate::benchmarks::terminal_bench::job::JobSettings;
        }
        pub mod judgement {
            pub use crate::benchmarks::terminal_bench::judgement::{Facts, Provider, judge, provider_claim, reason};
        }
        pub mod listing {
            pub use crate::benchmarks::terminal_bench::listing::{Dataset, Listing};
        }
        pub mod probe {
            pub use crate::benchmarks::terminal_bench::probe::Probe;
        }
        pub mod runner {
            pub use crate::benchmarks::terminal_bench::runner::{HarborInstall, HarborRunner};
        }
        pub mod sandbox {
            pub use crate::benchmarks::terminal_bench::sandbox::SANDBOXES;
        }
        pub mod watch {
            pub use crate::benchmarks::terminal_bench::watch::{Watch, job_is_finished, pause};
        }
    }
    pub mod trial_protocol {
        pub use crate::benchmarks::trial_protocol::{AgentSettings, ProtocolRunner, WaitLimits};
        pub mod line {
            pub use crate::benchmarks::trial_protocol::line::{ProtocolEvent, parse};
        }
    }
}

pub mod cli {
    pub use crate::cli::definition;
}

pub mod config {
    pub use crate::config::{
        COMMON, Config, Environment, Key, Section, TimeoutPolicy, is_secret_name, keys, keys_of, names, own_defaults,
    };
}

pub mod error {
    pub use crate::error::{Code, EXIT_INFRASTRUCTURE, EXIT_OK, EXIT_REJECTED, EXIT_USAGE, Error, Kind, Result};
}

pub mod guard {
    pub use crate::guard::{
        BaseTree, Change, Difference, Editable, EditableFile, EditableFiles, Preflight, PreflightFailure, Repo,
        agent_fingerprint, causes, compare_trees, scan, show_path, stage, violations,
    };

    pub mod agent_files {
        pub use crate::guard::agent_files::{read_editable_from_disk, read_editable_from_tree};
    }
    pub mod preflight {
        pub use crate::guard::preflight::TIME_LIMIT;
    }
    pub mod staging {
        pub use crate::guard::staging::{Link, copy};
    }
}

pub mod model {
    pub mod compare {
        pub use crate::model::compare::Reference;
    }
    pub mod gate {
        pub use crate::model::gate::{Evidence, Policy, RULES, decide};
    }
    pub mod hash {
        pub use crate::model::hash::hash;
    }
    pub mod paired {
        pub use crate::model::paired::{PairedVerdict, Rule};
    }
    pub mod proposal {
        pub use crate::model::proposal::Surface;
    }
    pub mod score {
        pub use crate::model::score::{Rewards, Scoring, TimeoutPolicy, TrialEvidence, task_reward};
    }
    pub mod simulate {
        pub use crate::model::simulate::{Agent, PlayedSearch, Random, RuleKind, all, mean};
    }
    pub mod split {
        pub use crate::model::split::TaskSplit;
    }
    pub mod suite {
        pub use crate::model::suite::SuiteChange;
    }
    pub mod trial {
        pub use crate::model::trial::{Outcome, Split, TrialResult};
    }
    pub mod usage {
        pub use crate::model::usage::Usage;
    }
}

pub mod process {
    pub use crate::process::{Ask, Child, Command, Exit, Limits, Log, Redactor, Stderr, Supervisor, run_captured};

    pub mod log {
        pub use crate::process::log::DEFAULT_CAP;
    }
    pub mod signals {
        pub use crate::process::signals::{Cancel, Trigger};
    }
}

pub mod provision {
    pub use crate::provision::{Finding, Level, Surroundings};

    pub mod python {
        pub use crate::provision::python::{Range, Version, search};
    }
    pub mod python_env {
        pub use crate::provision::python_env::{PythonEnv, Spec, find, provision};
    }
}

pub mod store {
    pub mod checkpoint {
        pub use crate::store::checkpoint::Checkpoint;
    }
    pub mod event {
        pub use crate::store::event::{
            Accepted, Baseline, By, Committed, End, Event, Outdone, Prepared, Proposed, Purpose, Recorded, Resampled,
            Revealed, Row, RunFinished, SessionUsage, SuiteChanged, Trial, Verdict,
        };
    }
    pub mod ledger {
        pub use crate::store::ledger::{
            Entry, GENESIS, Index, ReadReport, Tip, VERSION, Writer, read, read_links, tip_holds,
        };
    }
    pub mod state {
        pub use crate::store::state::State;
    }
    pub mod views {
        pub use crate::store::views::{RESULTS_HEADER, render};
    }
}

pub mod templates {
    pub use crate::templates::{agent_template, config_for, config_template, is_placeholder, program, scaffold};
}
