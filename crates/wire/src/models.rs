//! The model list: OpenAI's shape, and beside it who sells each model at what rate.

mod catalog;

use std::borrow::Cow;
use std::fmt::Write as _;

use bytes::Bytes;

pub use self::catalog::{Catalog, CatalogError, Currency, ListedModel, MAX_MODELS, PublishedPrice};
use crate::error::quote;

/// One model as clients see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model<'a> {
    /// The name that clients ask for.
    pub id: &'a str,
    /// When it came to be, in seconds since the epoch.
    pub created: u64,
    /// The `owned_by` of OpenAI's shape.
    pub owned_by: &'a str,
    /// Who sells it.
    pub providers: Vec<ModelOffer<'a>>,
}

/// What one provider takes for a model. Amounts are decimal texts, written as JSON numbers; `None` becomes `null`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelOffer<'a> {
    /// The provider's name in the config.
    pub name: &'a str,
    /// Sats per 1,000,000 input tokens.
    pub input_rate: Option<Cow<'a, str>>,
    /// Sats per 1,000,000 output tokens.
    pub output_rate: Option<Cow<'a, str>>,
    /// Sats per request.
    pub base_fee: Option<Cow<'a, str>>,
}

/// The body of `GET /v1/models`.
pub fn write_models(models: &[Model<'_>]) -> Bytes {
    let mut out = String::from(r#"{"object":"list","data":["#);
    for (at, model) in models.iter().enumerate() {
        out.push_str(if at == 0 { "" } else { "," });
        write(&mut out, model);
    }
    out.push_str("]}");
    out.into()
}

/// The body of `GET /v1/models/{id}`.
pub fn write_model(model: &Model<'_>) -> Bytes {
    let mut out = String::new();
    write(&mut out, model);
    out.into()
}

fn write(out: &mut String, model: &Model<'_>) {
    let Model {
        id,
        created,
        owned_by,
        providers,
    } = model;
    let (id, owned_by) = (quote(id), quote(owned_by));
    // Writing to a String cannot fail.
    let _ = write!(
        out,
        r#"{{"id":{id},"object":"model","created":{created},"owned_by":{owned_by},"arbstr":{{"providers":["#
    );
    for (at, offer) in providers.iter().enumerate() {
        let amount = |amount: &Option<Cow<'_, str>>| amount.as_deref().unwrap_or("null").to_owned();
        let _ = write!(
            out,
            r#"{}{{"name":{},"input_rate":{},"output_rate":{},"base_fee":{}}}"#,
            if at == 0 { "" } else { "," },
            quote(offer.name),
            amount(&offer.input_rate),
            amount(&offer.output_rate),
            amount(&offer.base_fee)
        );
    }
    out.push_str("]}}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_the_list_and_one() {
        let offer = ModelOffer {
            name: "al\"pha",
            input_rate: Some("10000".into()),
            output_rate: Some("0.125".into()),
            base_fee: None,
        };
        let model = Model {
            id: "gpt-4o",
            created: 7,
            owned_by: "arbstr",
            providers: vec![offer.clone(), offer],
        };
        let one = concat!(
            r#"{"id":"gpt-4o","object":"model","created":7,"owned_by":"arbstr","arbstr":{"providers":["#,
            r#"{"name":"al\"pha","input_rate":10000,"output_rate":0.125,"base_fee":null},"#,
            r#"{"name":"al\"pha","input_rate":10000,"output_rate":0.125,"base_fee":null}]}}"#
        );
        assert_eq!(write_model(&model), one);
        assert_eq!(
            write_models(&[model.clone(), model]),
            format!(r#"{{"object":"list","data":[{one},{one}]}}"#)
        );
        assert_eq!(write_models(&[]), r#"{"object":"list","data":[]}"#);
    }
}
