//! The texts of a chat request: message contents, whole or in parts.
//!
//! Read liberally: what is not a message in a known shape is passed over, for the provider to judge.

use crate::json::{Cursor, JsonError, Kind, Str, Strings, Walked};
use crate::request::{Part, Role, Size, Text};

/// Calls `f` with every text and message of the `messages` array at `at`, and says how large all of it is.
pub(crate) fn survey<'a>(body: Walked<'a, '_>, at: usize, f: &mut dyn FnMut(Part<'a>)) -> Size {
    let mut size = Size::default();
    // The body was checked when it was parsed, so a walk over it cannot fail.
    let _ = walk(body, at, &mut |piece| match piece {
        Piece::Message(role, bytes) => {
            size.messages += 1;
            f(Part::Message(role, bytes));
        }
        Piece::Text(text) => {
            size.text_bytes += text.raw().len() as u64;
            f(Part::Text(text));
        }
        Piece::ToolCalls(bytes) => size.tool_bytes += bytes as u64,
        Piece::Media => size.media += 1,
    });
    size
}

/// What a message says, as far as it is text.
enum Content<'a> {
    None,
    Text(Str<'a>),
    Parts(usize),
}

enum Piece<'a> {
    Message(Role, &'a [u8]),
    Text(Text<'a>),
    ToolCalls(usize),
    Media,
}

fn walk<'a>(
    body: Walked<'a, '_>,
    at: usize,
    f: &mut dyn FnMut(Piece<'a>),
) -> Result<(), JsonError> {
    let mut messages = body.cursor(at);
    messages.open_array()?;
    while messages.next_element()? {
        let kind = messages.peek()?;
        let start = messages.offset();
        let role = if kind == Kind::Object {
            message(body, &mut messages, f)?
        } else {
            messages.pass()?;
            Role::Other
        };
        let bytes = messages.slice(start..messages.offset());
        f(Piece::Message(role, bytes));
    }
    Ok(())
}

/// One message, and who says it. Its role may stand behind its content, so both are found before either is used. A long text is passed
/// once.
fn message<'a>(
    body: Walked<'a, '_>,
    cursor: &mut Cursor<'a, impl Strings>,
    f: &mut dyn FnMut(Piece<'a>),
) -> Result<Role, JsonError> {
    let mut role = Role::Other;
    let mut content = Content::None;
    cursor.open_object()?;
    while let Some(key) = cursor.next_key()? {
        let kind = cursor.peek()?;
        if key.is("role") && kind == Kind::String {
            role = role_of(cursor.string()?.raw());
        } else if key.is("content") && kind == Kind::String {
            content = Content::Text(cursor.string()?);
        } else {
            let span = cursor.skip()?;
            if key.is("content") {
                content = match kind {
                    Kind::Array => Content::Parts(span.start),
                    _ => Content::None,
                };
            } else if key.is("tool_calls") && kind == Kind::Array {
                f(Piece::ToolCalls(span.len()));
            }
        }
    }
    match content {
        Content::Text(string) => f(Piece::Text(Text::of(body.text, role, string))),
        Content::Parts(at) => parts(body, at, role, f)?,
        Content::None => {}
    }
    Ok(role)
}

fn parts<'a>(
    body: Walked<'a, '_>,
    at: usize,
    role: Role,
    f: &mut dyn FnMut(Piece<'a>),
) -> Result<(), JsonError> {
    let mut cursor = body.cursor(at);
    cursor.open_array()?;
    while cursor.next_element()? {
        match cursor.peek()? {
            Kind::String => f(Piece::Text(Text::of(body.text, role, cursor.string()?))),
            Kind::Object => part(body, &mut cursor, role, f)?,
            _ => cursor.pass()?,
        }
    }
    Ok(())
}

/// A part with a `text` string is text, whatever its type; any other is media.
fn part<'a>(
    body: Walked<'a, '_>,
    cursor: &mut Cursor<'a, impl Strings>,
    role: Role,
    f: &mut dyn FnMut(Piece<'a>),
) -> Result<(), JsonError> {
    let mut media = true;
    cursor.open_object()?;
    while let Some(key) = cursor.next_key()? {
        if key.is("text") && cursor.peek()? == Kind::String {
            f(Piece::Text(Text::of(body.text, role, cursor.string()?)));
            media = false;
        } else {
            cursor.skip()?;
        }
    }
    if media {
        f(Piece::Media);
    }
    Ok(())
}

fn role_of(raw: &[u8]) -> Role {
    match raw {
        b"system" | b"developer" => Role::System,
        b"user" => Role::User,
        b"assistant" => Role::Assistant,
        b"tool" | b"function" => Role::Tool,
        _ => Role::Other,
    }
}
