//! Numbers as a line of blocks.

const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A block for each value, from the least to the greatest of them.
pub(crate) fn spark(values: &[f64]) -> String {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let span = values.iter().copied().fold(f64::NEG_INFINITY, f64::max) - least;
    let block = |value: &f64| {
        // Without a span all are in the middle. The cast is of 0.0 to 7.0, and of NaN it makes 0.
        let height = if span > 0.0 { (value - least) / span * 7.0 } else { 3.0 };
        BLOCKS[(height.round() as usize).min(7)]
    };
    values.iter().map(block).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_is_low_and_the_greatest_high() {
        assert_eq!(spark(&[0.2, 0.5, 0.9]), "▁▄█");
        assert_eq!((spark(&[0.4]).as_str(), spark(&[]).as_str(), spark(&[f64::NAN, 1.0]).as_str()), ("▄", "", "▄▄"));
    }
}
