//! Decides who is asked, in what order, and what an outcome means.
