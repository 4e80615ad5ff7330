//! `${VAR}` in the strings of a config.
//!
//! A string of the file is a [`Template`] until it is expanded; only the expanded text can be used, so that no string
//! is forgotten. What a variable holds is taken as it is: it is not expanded again and cannot add TOML. `$${` stands
//! for a literal `${`; any other `$` stands for itself.

use zeroize::Zeroizing;

use super::Env;

/// A string as the file has it, not yet expanded.
#[derive(Clone)]
pub(super) struct Template(Zeroizing<String>);

/// A template with its variables filled in.
pub(super) struct Expanded {
    /// The text, zeroed when dropped: it may be a key.
    pub(super) text: Zeroizing<String>,
    /// The names of the variables in it.
    pub(super) variables: Vec<String>,
}

/// Why a template cannot be expanded.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ExpandError {
    /// The environment has no such variable.
    #[error("environment variable {0} is not set")]
    Unset(String),
    /// `${` without `}`.
    #[error(
        "found `${{` without its `}}`, expected `${{NAME}}` (write `$${{` for a literal `${{`)"
    )]
    Unclosed,
    /// Something that no shell would take for a name.
    #[error(
        "found `${{…}}` with something else than a variable's name in it, expected letters, digits and `_`"
    )]
    Name,
}

impl Template {
    /// Takes a string as the file has it.
    pub(super) fn new(source: &str) -> Self {
        Self(Zeroizing::new(source.to_owned()))
    }

    /// The text before expansion. Not to be shown when it may hold a literal secret.
    pub(super) fn source(&self) -> &str {
        &self.0
    }

    /// Fills the variables in.
    ///
    /// # Errors
    /// Every variable that is unset, and every `${` that is not a variable.
    pub(super) fn expand(&self, env: Env<'_>) -> Result<Expanded, Vec<ExpandError>> {
        let mut text = Zeroizing::new(String::with_capacity(self.0.len()));
        let mut variables = Vec::new();
        let mut faults = Vec::new();
        let mut rest = self.0.as_str();
        while let Some(at) = rest.find("${") {
            let (before, reference) = rest.split_at(at);
            if let Some(before) = before.strip_suffix('$') {
                push(&mut text, before);
                push(&mut text, "${");
                rest = &reference[2..];
                continue;
            }
            push(&mut text, before);
            let Some((name, after)) = reference[2..].split_once('}') else {
                faults.push(ExpandError::Unclosed);
                break;
            };
            rest = after;
            match look_up(name, env) {
                Ok(value) => push(&mut text, &value),
                Err(fault) => faults.push(fault),
            }
            variables.push(name.to_owned());
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        push(&mut text, rest);
        Ok(Expanded { text, variables })
    }

    /// The variables in it that the environment does not have, when that is all that is wrong with it.
    pub(super) fn unset(&self, env: Env<'_>) -> Vec<String> {
        let faults = self.expand(env).err().unwrap_or_default();
        let names = faults.into_iter().map(|fault| match fault {
            ExpandError::Unset(name) => Some(name),
            _ => None,
        });
        names.collect::<Option<_>>().unwrap_or_default()
    }
}

impl std::fmt::Debug for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Template(***)")
    }
}

fn look_up(name: &str, env: Env<'_>) -> Result<Zeroizing<String>, ExpandError> {
    let starts_well = !name.starts_with(|c: char| c.is_ascii_digit());
    let is_name = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if name.is_empty() || !starts_well || !is_name {
        return Err(ExpandError::Name);
    }
    env(name)
        .map(Zeroizing::new)
        .ok_or_else(|| ExpandError::Unset(name.to_owned()))
}

/// Appends without leaving half a secret behind in memory that a growing string gives back.
fn push(text: &mut Zeroizing<String>, more: &str) {
    if text.capacity() - text.len() < more.len() {
        let mut larger = Zeroizing::new(String::with_capacity((text.len() + more.len()) * 2));
        larger.push_str(text);
        *text = larger;
    }
    text.push_str(more);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("example.org".to_owned()),
            "KEY_2" => Some("${HOST}".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn fills_in_variables_once() {
        for (source, text) in [
            ("plain", "plain"),
            ("", ""),
            ("https://${HOST}/v1", "https://example.org/v1"),
            ("${HOST}${HOST}", "example.orgexample.org"),
            ("${KEY_2}", "${HOST}"),
            ("a${EMPTY}b", "ab"),
            ("5$ or $HOST", "5$ or $HOST"),
            ("$${HOST}", "${HOST}"),
            ("$${HOST} ${HOST}", "${HOST} example.org"),
            ("ä${HOST}ö", "äexample.orgö"),
        ] {
            let expanded = Template::new(source).expand(&env).map(|e| e.text);
            assert_eq!(
                expanded.as_deref().map(String::as_str),
                Ok(text),
                "{source}"
            );
        }
    }

    #[test]
    fn remembers_which_variables_were_used() {
        let variables = |source| Template::new(source).expand(&env).unwrap().variables;
        assert_eq!(variables("${HOST}-${KEY_2}"), ["HOST", "KEY_2"]);
        assert!(variables("sk-literal $${HOST}").is_empty());
    }

    #[test]
    fn reports_every_fault_of_a_string() {
        use ExpandError::{Name, Unclosed, Unset};
        for (source, faults) in [
            ("${A} ${B}", vec![Unset("A".into()), Unset("B".into())]),
            ("${A} ${", vec![Unset("A".into()), Unclosed]),
            ("${HOST", vec![Unclosed]),
            ("${}", vec![Name]),
            ("${A-B}", vec![Name]),
            ("${1A}", vec![Name]),
        ] {
            let result = Template::new(source).expand(&env);
            assert_eq!(result.err(), Some(faults), "{source}");
        }
    }
}
