//! Batching: queues of rows, and the device workers that run them.
