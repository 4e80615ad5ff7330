//! What experience says of requests and of those who serve them.
//!
//! A bill is taken apart into what the *request* caused and what its *server* added. [`demand`] holds the first: the
//! tokens that requests of a kind take, whoever serves them. [`profile`] holds the second: how many more tokens an offer
//! bills for the same, how often it fails, how well its cache works. Both learn from the same answers, each from what
//! the other leaves unexplained, in logarithms, where such effects add up. [`prefix`] knows who has seen which
//! conversation, [`typical`] what an offer adds of which nothing is known, [`explore`] what it is worth to find out more,
//! [`shared`] what is true of all models' requests.

pub(crate) mod demand;
pub(crate) mod explore;
pub(crate) mod factor;
pub(crate) mod prefix;
pub(crate) mod profile;
pub(crate) mod save;
pub(crate) mod shared;
pub(crate) mod typical;
