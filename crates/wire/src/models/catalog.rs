//! The model list of a provider: which models it names, and the prices it publishes beside them.
//!
//! Three dialects are in use, and told apart by their members: `pricing` in US dollars per token, `sats_pricing` in
//! sats per token, and no prices at all. Amounts are kept as the text they came in, since they are money. A list is
//! somebody else's word, so it is read with bounds: a model that cannot be named is left out and counted, and a list
//! that is too long is no list. Nor is one without models that may be no list at all: what is read takes the place of the
//! list before, and an error must not take all models away.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::error::ErrorObject;
use crate::json::{Cursor, JsonError, Kind};
use crate::outline::Outline;

/// The models that a list may have.
pub const MAX_MODELS: usize = 10_000;

/// What a provider lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalog {
    /// Each model once, in the order of the list.
    pub models: Vec<ListedModel>,
    /// Entries that were passed over: without a usable name, or not in use by the provider's own word.
    pub unusable: usize,
    /// Names that came again with another price: such a model is here once and without any.
    pub contradicted: usize,
}

/// One model of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedModel {
    /// Its name at the provider.
    pub id: String,
    /// What the provider says it takes; `None` when the list does not say.
    pub price: Option<PublishedPrice>,
}

/// A price as it was published. Amounts are the texts of the list, empty where one is far too long to be an amount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedPrice {
    /// What the amounts are in.
    pub currency: Currency,
    /// For each input token.
    pub input: String,
    /// For each output token.
    pub output: String,
    /// For each input token from the provider's cache.
    pub cached_input: Option<String>,
    /// For each request, on top.
    pub request: Option<String>,
}

/// What a published price is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Currency {
    /// Satoshis.
    Sats,
    /// US dollars.
    Dollars,
}

/// Why a text is no model list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogError {
    /// Nothing.
    #[error("is empty, expected a JSON model list")]
    Empty,
    /// A page for people.
    #[error("is HTML, expected a JSON model list")]
    Html,
    /// Damaged, cut, or something else.
    #[error("is not JSON: {0}")]
    NotJson(JsonError),
    /// JSON of another shape, for instance an error.
    #[error("has no `data` array, expected a JSON model list")]
    NoList,
    /// An error, with or without an empty list beside it.
    #[error("is an error, expected a JSON model list")]
    Error,
    /// Entries, none of which names a model.
    #[error("names no model in its list, expected a JSON model list")]
    Nameless,
    /// More than [`MAX_MODELS`].
    #[error("has more than {MAX_MODELS} models")]
    TooMany,
}

impl Catalog {
    /// Reads the body of `GET /models`: an object with a `data` array, or a bare array.
    ///
    /// # Errors
    /// When it is no such list, an error, without any usable name in its entries, or longer than [`MAX_MODELS`].
    pub fn read(body: &[u8]) -> Result<Self, CatalogError> {
        match body.trim_ascii_start().first() {
            None => return Err(CatalogError::Empty),
            Some(b'<') => return Err(CatalogError::Html),
            Some(_) => {}
        }
        let mut cursor = Cursor::new(body);
        let mut reading = Reading::default();
        let found = match cursor.peek()? {
            Kind::Array => {
                reading.list(&mut cursor)?;
                true
            }
            Kind::Object => reading.object(&mut cursor)?,
            _ => {
                cursor.pass()?;
                false
            }
        };
        cursor.end()?;
        if !found {
            return Err(CatalogError::NoList);
        }
        if reading.entries > 0 && reading.named == 0 {
            return Err(CatalogError::Nameless);
        }
        if reading.catalog.models.is_empty() && is_error(body) {
            return Err(CatalogError::Error);
        }
        Ok(reading.catalog)
    }
}

impl From<JsonError> for CatalogError {
    fn from(error: JsonError) -> Self {
        Self::NotJson(error)
    }
}

#[derive(Debug, Default)]
struct Reading {
    catalog: Catalog,
    places: HashMap<String, usize>,
    entries: usize,
    /// Entries with a usable name, in use or not.
    named: usize,
}

impl Reading {
    /// Whether there was a `data` array; `null` is how some write an empty one.
    fn object(&mut self, cursor: &mut Cursor<'_>) -> Result<bool, CatalogError> {
        let mut found = false;
        cursor.open_object()?;
        while let Some(key) = cursor.next_key()? {
            match cursor.peek()? {
                Kind::Array if key.is("data") => {
                    self.list(cursor)?;
                    found = true;
                }
                kind => {
                    cursor.pass()?;
                    found |= key.is("data") && kind == Kind::Null;
                }
            }
        }
        Ok(found)
    }

    fn list(&mut self, cursor: &mut Cursor<'_>) -> Result<(), CatalogError> {
        cursor.open_array()?;
        while cursor.next_element()? {
            self.entries += 1;
            if self.entries > MAX_MODELS {
                return Err(CatalogError::TooMany);
            }
            let entry = match cursor.peek()? {
                Kind::Object => entry(cursor)?,
                _ => {
                    cursor.pass()?;
                    Entry::Nameless
                }
            };
            self.named += usize::from(!matches!(entry, Entry::Nameless));
            match entry {
                Entry::Listed(listed) => self.take(listed),
                Entry::Nameless | Entry::NotInUse => self.catalog.unusable += 1,
            }
        }
        Ok(())
    }

    /// A name that comes twice is one model; with two prices, nobody knows which holds.
    fn take(&mut self, listed: ListedModel) {
        let Some(&place) = self.places.get(&listed.id) else {
            let place = self.catalog.models.len();
            self.places.insert(listed.id.clone(), place);
            self.catalog.models.push(listed);
            return;
        };
        let earlier = &mut self.catalog.models[place];
        if earlier.price != listed.price {
            earlier.price = None;
            self.catalog.contradicted += 1;
        }
    }
}

/// What one entry of a list is.
enum Entry {
    Listed(ListedModel),
    /// Switched off by the provider's own word.
    NotInUse,
    /// Without a usable name.
    Nameless,
}

/// Whether a body without models tells of an error, as an answer or an event would.
fn is_error(body: &[u8]) -> bool {
    let outline = Outline::read(body).ok().flatten();
    outline.is_some_and(|outline| outline.error.is_some())
        || ErrorObject::of_event_without_choices(body).is_some()
}

/// Reads one entry.
fn entry(cursor: &mut Cursor<'_>) -> Result<Entry, JsonError> {
    let (mut id, mut in_dollars, mut in_sats, mut enabled) = (None, None, None, true);
    cursor.open_object()?;
    while let Some(key) = cursor.next_key()? {
        match (&*key.name(), cursor.peek()?) {
            (b"id", Kind::String) => id = cursor.string()?.decode().and_then(name),
            (b"enabled", Kind::Bool) => enabled = cursor.slice_skipped()? == b"true",
            (b"pricing", Kind::Object) => in_dollars = price(cursor, Currency::Dollars)?,
            (b"sats_pricing", Kind::Object) => in_sats = price(cursor, Currency::Sats)?,
            _ => cursor.pass()?,
        }
    }
    Ok(match id {
        None => Entry::Nameless,
        Some(_) if !enabled => Entry::NotInUse,
        Some(id) => Entry::Listed(ListedModel {
            id,
            price: in_sats.or(in_dollars),
        }),
    })
}

fn name(text: Cow<'_, str>) -> Option<String> {
    let fits = !text.is_empty() && text.len() <= MAX_NAME && text.trim().len() == text.len();
    (fits && !text.chars().any(char::is_control)).then(|| text.into_owned())
}

/// `None` unless input and output both have one: half a price is none.
fn price(cursor: &mut Cursor<'_>, currency: Currency) -> Result<Option<PublishedPrice>, JsonError> {
    let (mut input, mut output, mut cached_input, mut request) = (None, None, None, None);
    cursor.open_object()?;
    while let Some(key) = cursor.next_key()? {
        let place = match &*key.name() {
            b"prompt" => &mut input,
            b"completion" => &mut output,
            b"input_cache_read" => &mut cached_input,
            b"request" => &mut request,
            _ => {
                cursor.pass()?;
                continue;
            }
        };
        *place = amount(cursor)?;
    }
    let (Some(input), Some(output)) = (input, output) else {
        return Ok(None);
    };
    Ok(Some(PublishedPrice {
        currency,
        input,
        output,
        cached_input,
        request,
    }))
}

/// The text of a number, written as one or in quotes.
fn amount(cursor: &mut Cursor<'_>) -> Result<Option<String>, JsonError> {
    let text = match cursor.peek()? {
        Kind::String => cursor.string()?.decode(),
        Kind::Number => Some(String::from_utf8_lossy(cursor.slice_skipped()?)),
        _ => {
            cursor.pass()?;
            None
        }
    };
    Ok(text.map(|text| match text.trim() {
        text if text.len() <= MAX_AMOUNT => text.to_owned(),
        _ => String::new(),
    }))
}

/// Bytes of a name.
const MAX_NAME: usize = 256;
/// Bytes of an amount.
const MAX_AMOUNT: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn dollars(input: &str, output: &str) -> PublishedPrice {
        PublishedPrice {
            currency: Currency::Dollars,
            input: input.to_owned(),
            output: output.to_owned(),
            cached_input: None,
            request: None,
        }
    }

    fn one(entry: &str) -> Option<ListedModel> {
        let body = format!(r#"{{"data":[{entry},{{"id":"other"}}]}}"#);
        let mut catalog = Catalog::read(body.as_bytes()).unwrap();
        assert_eq!(catalog.models.pop().unwrap().id, "other");
        assert_eq!(catalog.unusable, usize::from(catalog.models.is_empty()));
        catalog.models.pop()
    }

    #[test]
    fn reads_the_prices_of_each_dialect() {
        let cases: [(&str, Option<PublishedPrice>); 9] = [
            (r#"{"id":"m","object":"model","owned_by":"library"}"#, None),
            (
                r#"{"id":"m","pricing":{"prompt":"0.0000025","completion":"0.00001","request":"0.01","input_cache_read":"0.00000125","image":"1"}}"#,
                Some(PublishedPrice {
                    cached_input: Some("0.00000125".into()),
                    request: Some("0.01".into()),
                    ..dollars("0.0000025", "0.00001")
                }),
            ),
            (
                r#"{"id":"m","pricing":{"prompt":1e-7,"completion":0},"sats_pricing":null}"#,
                Some(dollars("1e-7", "0")),
            ),
            (
                r#"{"id":"m","pricing":{"prompt":1,"completion":2},"sats_pricing":{"prompt":0.0027,"completion":2.5E-2,"max_cost":9}}"#,
                Some(PublishedPrice {
                    currency: Currency::Sats,
                    ..dollars("0.0027", "2.5E-2")
                }),
            ),
            (r#"{"id":"m","pricing":{"prompt":"1"}}"#, None),
            (
                r#"{"id":"m","pricing":{"prompt":"1","completion":null}}"#,
                None,
            ),
            (r#"{"id":"m","pricing":"free"}"#, None),
            (
                r#"{"id":"m","pricing":{"prompt":"-1","completion":"-1"}}"#,
                Some(dollars("-1", "-1")),
            ),
            (
                r#"{"pr\u0069cing":{"prompt":" 1 ","completion":"2"},"id":"m"}"#,
                Some(dollars("1", "2")),
            ),
        ];
        for (entry, price) in cases {
            let listed = one(entry).unwrap_or_else(|| panic!("{entry}"));
            assert_eq!((listed.id.as_str(), listed.price), ("m", price), "{entry}");
        }
    }

    #[test]
    fn passes_over_what_has_no_usable_name() {
        let long = format!(r#"{{"id":"{}"}}"#, "x".repeat(257));
        for entry in [
            "{}",
            "7",
            "null",
            r#"{"id":7}"#,
            r#"{"id":""}"#,
            r#"{"id":" m"}"#,
            r#"{"id":"a\nb"}"#,
            r#"{"id":"\ud800"}"#,
            r#"{"id":"m","enabled":false}"#,
            &long,
        ] {
            assert_eq!(one(entry), None, "{entry}");
        }
        assert!(one(r#"{"id":"m","enabled":true}"#).is_some());
    }

    #[test]
    fn a_name_with_two_prices_has_none() {
        let priced =
            |price| format!(r#"{{"id":"m","pricing":{{"prompt":{price},"completion":1}}}}"#);
        let read = |second: &str| {
            let body = format!("[{},{},{second}]", priced(1), r#"{"id":"n"}"#);
            Catalog::read(body.as_bytes()).unwrap()
        };
        let same = read(&priced(1));
        assert_eq!((same.models.len(), same.contradicted), (2, 0));
        assert_eq!(same.models[0].price, Some(dollars("1", "1")));
        for other in [priced(2), r#"{"id":"m"}"#.to_owned()] {
            let catalog = read(&other);
            assert_eq!((catalog.models.len(), catalog.contradicted), (2, 1));
            assert_eq!(catalog.models[0].price, None);
        }
    }

    #[test]
    fn says_what_is_no_list() {
        use CatalogError::{Empty, Html, NoList, TooMany};
        let crowd = |count| format!("[{}7]", "7,".repeat(count));
        let cases: [(&str, CatalogError); 8] = [
            ("", Empty),
            (" \n", Empty),
            ("\n<!doctype html>", Html),
            ("{}", NoList),
            (r#"{"error":{"message":"no"}}"#, NoList),
            (r#"{"data":{"id":"m"}}"#, NoList),
            ("\"models\"", NoList),
            (&crowd(MAX_MODELS), TooMany),
        ];
        for (body, error) in cases {
            assert_eq!(Catalog::read(body.as_bytes()), Err(error), "{body:.40}");
        }
        let most = crowd(MAX_MODELS - 1).replacen('7', r#"{"id":"m"}"#, 1);
        assert!(Catalog::read(most.as_bytes()).is_ok());
        for cut in [
            r#"{"data":[{"id":"m"},{"i"#,
            "[",
            "[1,]",
            "[] 7",
            "nonsense",
        ] {
            let error = Catalog::read(cut.as_bytes()).unwrap_err();
            assert!(matches!(error, CatalogError::NotJson(_)), "{cut}: {error}");
        }
        assert_eq!(
            CatalogError::NotJson(Cursor::new(b"[").pass().unwrap_err()).to_string(),
            "is not JSON: expected a value at byte 1, but the text ends there"
        );
    }

    #[test]
    fn null_is_an_empty_list() {
        for body in [r#"{"object":"list","data":null}"#, "[]", r#"{"data":[]}"#] {
            assert_eq!(Catalog::read(body.as_bytes()), Ok(Catalog::default()));
        }
    }

    #[test]
    fn an_error_with_an_empty_list_is_no_list() {
        for body in [
            r#"{"code":50505,"message":"Model service overloaded","data":null}"#,
            r#"{"code":50505,"message":"Model service overloaded","data":[]}"#,
            r#"{"object":"error","message":"overloaded","data":null}"#,
            r#"{"object":"error","message":"overloaded","data":[]}"#,
            r#"{"data":null,"error":{"message":"no"}}"#,
            r#"{"error":"no","data":[]}"#,
            r#"{"data":null,"base_resp":{"status_code":1004,"status_msg":"login"}}"#,
            r#"{"data":[{"id":"m","enabled":false}],"error":"no"}"#,
        ] {
            let read = Catalog::read(body.as_bytes());
            assert_eq!(read, Err(CatalogError::Error), "{body}");
        }
        let listed = r#"{"object":"list","code":20000,"message":"Ok","data":[{"id":"m"}]}"#;
        assert_eq!(Catalog::read(listed.as_bytes()).unwrap().models.len(), 1);
    }

    #[test]
    fn a_list_none_of_whose_entries_has_a_usable_name_is_no_list() {
        for body in [
            r#"{"data":[{},5,null]}"#,
            r#"[{"error":{"message":"no"}}]"#,
            r#"[{"name":"m"}]"#,
            r#"{"data":[{"id":"","enabled":false}]}"#,
        ] {
            let read = Catalog::read(body.as_bytes());
            assert_eq!(read, Err(CatalogError::Nameless), "{body}");
        }
        let idle = Catalog::read(br#"{"data":[{"id":"m","enabled":false}]}"#).unwrap();
        assert_eq!((idle.models.len(), idle.unusable), (0, 1));
    }

    #[test]
    fn an_endless_amount_is_no_amount() {
        let entry = format!(
            r#"{{"id":"m","pricing":{{"prompt":0.{},"completion":1}}}}"#,
            "1".repeat(70)
        );
        assert_eq!(
            one(&entry).and_then(|listed| listed.price),
            Some(dollars("", "1"))
        );
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,80}") {
            let _ = Catalog::read(text.as_bytes());
            let _ = Catalog::read(format!(r#"{{"data":[{{"id":{text}}}]}}"#).as_bytes());
        }
    }
}
