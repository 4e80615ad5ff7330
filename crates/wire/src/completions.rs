//! The prompts of a completions request: one text, several, or token numbers.

use crate::json::{Cursor, JsonError, Kind, Strings, Walked};
use crate::request::{Role, Size, Text};

/// Calls `f` with every prompt that is a text, given the offset of the `prompt` value, and says how large and how many
/// all prompts are.
pub(crate) fn survey<'a>(body: Walked<'a, '_>, at: usize, f: &mut dyn FnMut(Text<'a>)) -> Size {
    let mut size = Size::default();
    let mut text_bytes = 0;
    // The body was checked when it was parsed, so a walk over it cannot fail.
    let _ = walk(body, at, &mut size, &mut |text| {
        text_bytes += text.raw().len() as u64;
        f(text);
    });
    Size { text_bytes, ..size }
}

/// A string is one prompt, a list of numbers is one prompt, a list of either is as many.
fn walk<'a>(
    body: Walked<'a, '_>,
    at: usize,
    size: &mut Size,
    f: &mut dyn FnMut(Text<'a>),
) -> Result<(), JsonError> {
    let mut cursor = body.cursor(at);
    match cursor.peek()? {
        Kind::String => prompt(body, &mut cursor, size, f),
        Kind::Array => {
            let tokens_before = size.tokens;
            cursor.open_array()?;
            while cursor.next_element()? {
                match cursor.peek()? {
                    Kind::String => prompt(body, &mut cursor, size, f)?,
                    Kind::Array => token_list(&mut cursor, size)?,
                    _ => {
                        cursor.skip()?;
                        size.tokens += 1;
                    }
                }
            }
            if size.messages == 0 && size.tokens > tokens_before {
                size.messages = 1;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn prompt<'a>(
    body: Walked<'a, '_>,
    cursor: &mut Cursor<'a, impl Strings>,
    size: &mut Size,
    f: &mut dyn FnMut(Text<'a>),
) -> Result<(), JsonError> {
    size.messages += 1;
    f(Text::of(body.text, Role::User, cursor.string()?));
    Ok(())
}

fn token_list(cursor: &mut Cursor<'_, impl Strings>, size: &mut Size) -> Result<(), JsonError> {
    size.messages += 1;
    cursor.open_array()?;
    while cursor.next_element()? {
        cursor.skip()?;
        size.tokens += 1;
    }
    Ok(())
}
