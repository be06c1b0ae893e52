//! What users did: histories, baskets and popularity, made from the log's events.
