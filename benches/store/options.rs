//! The command line.

use std::path::PathBuf;

/// What to measure.
#[derive(Debug)]
pub(crate) struct Options {
    /// Rows of the file.
    pub(crate) rows: u64,
    /// A file to write and keep, or one kept from before.
    pub(crate) file: Option<PathBuf>,
}

impl Options {
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            rows: 10_000_000,
            file: None,
        };
        while let Some(argument) = arguments.next() {
            let mut value = || {
                let value = arguments.next();
                value.ok_or_else(|| format!("{argument} needs a value"))
            };
            match argument.as_str() {
                // Given by cargo.
                "--bench" => {}
                "--quick" => options.rows = 500_000,
                "--rows" => {
                    let rows = value()?.replace('_', "").parse();
                    options.rows = rows.map_err(|_| "--rows needs a number".to_owned())?;
                }
                "--file" => options.file = Some(value()?.into()),
                _ => {
                    return Err(format!(
                        "unknown argument {argument}; known are --rows N, --quick and --file FILE"
                    ));
                }
            }
        }
        Ok(options)
    }
}
