//! The filter language of the API (a subset of AIP-160), and counting by facets.
