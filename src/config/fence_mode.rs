//! The word of `fence:`.

/// Whether agents are fenced in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FenceMode {
    /// With the layers that this machine has.
    #[default]
    Auto,
    /// With every layer, or not at all.
    Required,
    Off,
}

impl FenceMode {
    /// The word of the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            FenceMode::Auto => "auto",
            FenceMode::Required => "required",
            FenceMode::Off => "off",
        }
    }

    /// The mode that a word of the configuration means.
    pub fn parse(word: &str) -> Option<FenceMode> {
        [FenceMode::Auto, FenceMode::Required, FenceMode::Off].into_iter().find(|mode| mode.as_str() == word)
    }
}
