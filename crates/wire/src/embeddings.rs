//! The inputs of an embeddings request. They come in the shapes of a completion's prompts.

pub(crate) use crate::completions::survey;
