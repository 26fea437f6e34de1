//! The pure heart: words of the field and decisions over evidence. No I/O, no clock, no randomness.

pub mod calibrate;
pub mod claim;
pub mod compare;
pub mod gate;
pub mod hash;
pub mod interval;
pub mod outcomes;
pub mod paired;
pub mod proposal;
pub mod score;
pub mod simulate;
pub mod split;
pub mod suite;
pub mod trial;
pub mod usage;
