//! Does without the records that the database will never take.
//!
//! One by one they show which those are, each under a savepoint of its own. All are within one transaction, as is how
//! far the journal is applied with them: what fails on the way is tried again from where it began.

use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};

use super::batch::Batch;
use super::{Known, Position, apply, save_position};
use crate::journal::frame;
use crate::records::Records;

/// What came of records that are applied.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sifted {
    /// How many found no row to work on.
    pub(crate) unmatched: u64,
    /// How many the database refused for good.
    pub(crate) refused: u64,
}

/// Like [`apply`], but for the records that are refused for good. Both kinds of loss are told as well.
pub(crate) fn apply_sifted(
    connection: &mut Connection,
    owner: &str,
    known: &mut Known,
    records: &Records,
    position: Option<Position>,
) -> Result<Sifted, rusqlite::Error> {
    match apply(connection, owner, known, records.frames(), position) {
        Err(error) if is_about_a_record(&error) => {
            apply_singly(connection, owner, known, records, position)
        }
        unmatched => Ok(Sifted {
            unmatched: unmatched?,
            refused: 0,
        }),
    }
}

fn apply_singly(
    connection: &mut Connection,
    owner: &str,
    known: &mut Known,
    records: &Records,
    position: Option<Position>,
) -> Result<Sifted, rusqlite::Error> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    known.sums.begin(&transaction)?;
    let mut sifted = Sifted::default();
    // As in a batch, a completion may come before its opening.
    let (openings, others): (Vec<_>, Vec<_>) =
        records.frames().partition(|frame| frame::is_opening(frame));
    for frame in openings.into_iter().chain(others) {
        transaction.execute_batch("SAVEPOINT record")?;
        match write(&transaction, owner, known, frame) {
            Err(error) if is_about_a_record(&error) => {
                transaction.execute_batch("ROLLBACK TO record")?;
                sifted.refused += 1;
                tracing::error!(
                    correlation_id = frame::correlation_id(frame),
                    %error,
                    "the database refuses a record for good, so it is lost; look for a trigger or constraint in the database that is not arbstr's"
                );
            }
            unmatched => sifted.unmatched += unmatched?,
        }
        transaction.execute_batch("RELEASE record")?;
    }
    if let Some(position) = position {
        save_position(&transaction, owner, position)?;
    }
    transaction.commit()?;
    Ok(sifted)
}

/// Writes one record. What comes of it is found in the database later, and not remembered: it may yet be undone.
fn write(
    transaction: &Transaction<'_>,
    owner: &str,
    known: &mut Known,
    frame: &[u8],
) -> Result<u64, rusqlite::Error> {
    let mut batch = Batch::new(transaction, owner, known)?;
    batch.write(std::iter::once(frame))?;
    Ok(batch.finish()?.unmatched)
}

/// Whether one record is at fault rather than the database.
fn is_about_a_record(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::ConstraintViolation
                | ErrorCode::TypeMismatch
                | ErrorCode::TooBig
                | ErrorCode::ParameterOutOfRange
        )
    )
}
