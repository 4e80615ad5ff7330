//! The cursor of a page: where it ended, as text that means nothing to its holder.
//!
//! A cursor holds for the sort and the filter it was made with, not for the range: the ends of `last_24h` move from
//! page to page. It is hexadecimal: version, a check of sort and filter, the last row's sort key and id, a check of all.

use super::selection::Filter;
use super::{QueryError, Sort};

/// The last row of a page: the value it is sorted by, and its id, which settles ties.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) key: Option<i64>,
    pub(super) id: i64,
}

/// The cursor of the page after `position`.
pub(super) fn write(position: Position, sort: Sort, filter: &Filter) -> String {
    let mut bytes = vec![VERSION];
    bytes.extend(fingerprint(sort, filter).to_le_bytes());
    bytes.push(u8::from(position.key.is_some()));
    bytes.extend(position.key.unwrap_or(0).to_le_bytes());
    bytes.extend(position.id.to_le_bytes());
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Where `cursor` says that the page before ended.
pub(super) fn read(cursor: &str, sort: Sort, filter: &Filter) -> Result<Position, QueryError> {
    let bytes = parse_hex(cursor).ok_or(QueryError::Cursor)?;
    let (body, check) = bytes.split_last_chunk::<4>().ok_or(QueryError::Cursor)?;
    let known = u32::from_le_bytes(*check) == crc32fast::hash(body);
    let (rest, id) = body.split_last_chunk::<8>().ok_or(QueryError::Cursor)?;
    let (rest, key) = rest.split_last_chunk::<8>().ok_or(QueryError::Cursor)?;
    let mut begin = vec![VERSION];
    begin.extend(fingerprint(sort, filter).to_le_bytes());
    match rest.split_last() {
        Some((has_key @ 0..=1, front)) if known && front == begin => Ok(Position {
            key: (*has_key == 1).then(|| i64::from_le_bytes(*key)),
            id: i64::from_le_bytes(*id),
        }),
        _ => Err(QueryError::Cursor),
    }
}

fn fingerprint(sort: Sort, filter: &Filter) -> u32 {
    crc32fast::hash(format!("{sort:?} {filter:?}").as_bytes())
}

fn parse_hex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() || pairs.len() > LONGEST {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let byte = |pair: &[u8; 2]| u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok();
    pairs.iter().map(byte).collect()
}

const VERSION: u8 = 1;
/// No cursor has as many bytes.
const LONGEST: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::query::SortBy;

    #[test]
    fn holds_for_its_sort_and_filter_alone() {
        let position = Position {
            key: Some(-7),
            id: 9,
        };
        let filter = Filter {
            model: Some("gpt".to_owned()),
            ..Filter::default()
        };
        let text = write(position, Sort::default(), &filter);
        assert_eq!(read(&text, Sort::default(), &filter).unwrap(), position);
        let by_cost = Sort {
            by: SortBy::Cost,
            ..Sort::default()
        };
        assert!(read(&text, by_cost, &filter).is_err());
        assert!(read(&text, Sort::default(), &Filter::default()).is_err());
        for broken in [
            "",
            "0",
            "zz",
            &text[2..],
            &text[..text.len() - 2],
            &text.replacen('0', "1", 1),
        ] {
            assert!(read(broken, Sort::default(), &filter).is_err(), "{broken}");
        }
    }

    proptest! {
        #[test]
        fn every_position_comes_back(key in proptest::option::of(any::<i64>()), id in any::<i64>()) {
            let position = Position { key, id };
            let text = write(position, Sort::default(), &Filter::default());
            prop_assert_eq!(read(&text, Sort::default(), &Filter::default()).unwrap(), position);
        }

        #[test]
        fn any_text_is_refused_calmly(text in "\\PC{0,80}") {
            prop_assert!(read(&text, Sort::default(), &Filter::default()).is_err());
        }
    }
}
