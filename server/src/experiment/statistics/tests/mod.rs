//! The statistics as a whole: against other implementations, and in simulated experiments.

mod peers;
mod simulations;
