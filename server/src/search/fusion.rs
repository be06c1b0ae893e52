//! Fusing the rankings of several retrievers into one.
