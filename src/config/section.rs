//! What a benchmark adds to the configuration. The configuration itself knows no benchmark.

use std::any::Any;
use std::fmt::{self, Debug};

use super::{Config, Document, Key};
use crate::error::Result;

/// The settings that only one benchmark has: any plain type of its own.
pub trait Settings: Any + Debug {
    /// A copy of them.
    fn copy(&self) -> Box<dyn Settings>;
}

impl<T: Any + Debug + Clone> Settings for T {
    fn copy(&self) -> Box<dyn Settings> {
        Box::new(self.clone())
    }
}

impl Clone for Box<dyn Settings> {
    fn clone(&self) -> Self {
        (**self).copy()
    }
}

/// A benchmark, as far as the configuration is concerned.
pub trait Section: Sync {
    /// The name used in the configuration and on the command line: `tau-bench`.
    fn name(&self) -> &'static str;

    /// The keys that it has beside the common ones.
    fn keys(&self) -> &'static [Key];

    /// Its settings where nothing is configured.
    fn settings(&self) -> Box<dyn Settings>;

    /// Sets what it wants other common defaults for: seed, concurrency, time limit.
    fn defaults(&self, _config: &mut Config) {}

    /// Refuses keys that contradict each other.
    ///
    /// # Errors
    /// Usage, with file and line.
    fn check(&self, _document: &Document, _config: &Config) -> Result<()> {
        Ok(())
    }

    /// Fills in what follows from other keys.
    fn complete(&self, _config: &mut Config) {}

    /// Its section of the template of the configuration: comments, and every key of its own.
    fn template(&self) -> &'static str;

    /// The name as part of a file name: `tau_bench`.
    fn file_stem(&self) -> String {
        self.name().replace('-', "_")
    }
}

impl Debug for dyn Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for dyn Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl PartialEq for dyn Section {
    fn eq(&self, other: &dyn Section) -> bool {
        self.name() == other.name()
    }
}
