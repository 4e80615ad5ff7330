//! A JSON pointer (RFC 6901) into a text: `/bpi/USD/rate`.

use std::borrow::Cow;

use super::{Cursor, JsonError, Kind};

/// The text of the number or string that `pointer` leads to; `None` where it leads nowhere or to something else.
///
/// A number keeps the spelling it has, so that nothing is lost on the way. Of a name that is there twice the first
/// counts.
///
/// # Errors
/// `text` is not JSON.
pub fn scalar_at<'a>(text: &'a [u8], pointer: &str) -> Result<Option<Cow<'a, str>>, JsonError> {
    super::check(text)?;
    let mut cursor = Cursor::new(text);
    let steps = pointer.strip_prefix('/').map(|steps| steps.split('/'));
    for step in steps.into_iter().flatten() {
        let name = step.replace("~1", "/").replace("~0", "~");
        let found = match cursor.peek()? {
            Kind::Object => enter_member(&mut cursor, &name)?,
            Kind::Array => enter_element(&mut cursor, &name)?,
            _ => false,
        };
        if !found {
            return Ok(None);
        }
    }
    Ok(match cursor.peek()? {
        Kind::String => cursor.string()?.decode(),
        Kind::Number => Some(String::from_utf8_lossy(cursor.slice_skipped()?)),
        _ => None,
    })
}

fn enter_member(cursor: &mut Cursor<'_>, name: &str) -> Result<bool, JsonError> {
    cursor.open_object()?;
    while let Some(key) = cursor.next_key()? {
        if key.is(name) {
            return Ok(true);
        }
        cursor.pass()?;
    }
    Ok(false)
}

fn enter_element(cursor: &mut Cursor<'_>, index: &str) -> Result<bool, JsonError> {
    let is_canonical = index == "0" || !index.starts_with(['0', '+']);
    let Some(index) = index.parse::<usize>().ok().filter(|_| is_canonical) else {
        return Ok(false);
    };
    cursor.open_array()?;
    for _ in 0..index {
        if !cursor.next_element()? {
            return Ok(false);
        }
        cursor.pass()?;
    }
    cursor.next_element()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leads_to_scalars_and_nowhere_else() {
        let text = r#"{"a":{"b":[1, "two", 3e-7], "x/y":"slash", "~":0.10}, "":"empty", "e":[], "n":null, "a":9}"#;
        for (pointer, found) in [
            ("/a/b/0", Some("1")),
            ("/a/b/1", Some("two")),
            ("/a/b/2", Some("3e-7")),
            ("/a/b/3", None),
            ("/a/b/00", None),
            ("/a/b/+1", None),
            ("/a/b/x", None),
            ("/a/x~1y", Some("slash")),
            ("/a/~0", Some("0.10")),
            ("/", Some("empty")),
            ("/e/0", None),
            ("/n", None),
            ("/a", None),
            ("/a/b/0/c", None),
            ("/none", None),
            ("", None),
        ] {
            let scalar = scalar_at(text.as_bytes(), pointer).unwrap();
            assert_eq!(scalar.as_deref(), found, "{pointer}");
        }
        assert_eq!(scalar_at(b"42", "").unwrap().as_deref(), Some("42"));
        assert!(scalar_at(b"{\"a\":1", "/a").is_err());
    }
}
