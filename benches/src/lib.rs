//! Micro-benchmarks of the parts, beside `grid load`, which measures the whole.
//!
//! `cargo bench -p benches` prints one line a case. Figures are of one process on the machine at hand;
//! compare ratios, not runs.
