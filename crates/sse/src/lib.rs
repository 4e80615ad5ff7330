//! Cuts a byte stream into server-sent events, whatever the chunking.
