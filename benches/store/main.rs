//! How fast the ledger writes, and how fast it answers over ten million rows; see benches/README.md.

#![expect(clippy::disallowed_methods, reason = "a bench looks at the clock")]

mod cpu;
mod options;
mod read;
mod record;
mod write;

use std::error::Error;

use arbstr_store::Reader;

use crate::options::Options;

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse(std::env::args().skip(1))?;
    let folder = std::env::temp_dir().join(format!("arbstr-bench-store-{}", std::process::id()));
    let file = options
        .file
        .clone()
        .unwrap_or_else(|| folder.join("arbstr.db"));
    if !file.exists() {
        write::whole(&file, options.rows)?;
    }
    write::apart(&folder.join("apart.db"), options.rows.min(500_000))?;
    read::measure(&Reader::open(&file)?)?;
    if folder.exists() {
        std::fs::remove_dir_all(folder)?;
    }
    Ok(())
}
