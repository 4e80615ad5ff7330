//! Markets built, inherited and asked for plans.
