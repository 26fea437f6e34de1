//! How far a measured rate may be from the true one.

/// Standard deviations of a 95 % interval.
const Z: f64 = 1.959_963_984_540_054;

/// Wilson's 95 % interval of a mean of `count` rewards between 0 and 1; the whole range when there are none. It is
/// conservative for rewards in between, because none vary more than those that are 0 or 1.
pub(crate) fn wilson(mean: f64, count: usize) -> (f64, f64) {
    if count == 0 {
        return (0.0, 1.0);
    }
    let (n, mean) = (count as f64, mean.clamp(0.0, 1.0));
    let scale = 1.0 / (1.0 + Z * Z / n);
    let middle = (mean + Z * Z / (2.0 * n)) * scale;
    let half = Z * (mean * (1.0 - mean) / n + Z * Z / (4.0 * n * n)).sqrt() * scale;
    ((middle - half).max(0.0), (middle + half).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_wilson() {
        for (passed, count, low, high) in [
            (0, 5, 0.0, 0.4345),
            (5, 5, 0.5655, 1.0),
            (10, 15, 0.4171, 0.8482),
            (13, 15, 0.6212, 0.9626),
            (28, 71, 0.2889, 0.5106),
            (62, 89, 0.5946, 0.7824),
        ] {
            let found = wilson(f64::from(passed) / f64::from(count), count as usize);
            assert!((found.0 - low).abs() < 6e-5 && (found.1 - high).abs() < 6e-5, "{passed}/{count}: {found:?}");
        }
        assert_eq!(wilson(0.3, 0), (0.0, 1.0));
    }
}
