//! Turns usage and rates into exact sats.
