//! Keeps one row per request and answers queries over them.
