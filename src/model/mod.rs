//! The pure heart: words of the field and decisions over evidence. No I/O, no clock, no randomness.

pub(crate) mod calibrate;
pub(crate) mod claim;
pub(crate) mod compare;
pub(crate) mod gate;
pub(crate) mod hash;
pub(crate) mod interval;
pub(crate) mod outcomes;
pub(crate) mod paired;
pub(crate) mod proposal;
pub(crate) mod score;
pub(crate) mod simulate;
pub(crate) mod split;
pub(crate) mod suite;
pub(crate) mod trial;
pub(crate) mod usage;
