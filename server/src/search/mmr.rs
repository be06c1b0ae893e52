//! Diversification by maximal marginal relevance.
