//! Requests walked through their attempts.
