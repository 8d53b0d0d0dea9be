//! The status file: what monitoring reads without asking anybody.
//!
//! Not here: what stands in it ([`StatusDocument`]).

use std::path::Path;

use crate::model::StatusDocument;
use crate::sys::atomic::{self, Access, WriteError};

/// The status file was not written; the old one is still there.
#[derive(Debug, thiserror::Error)]
pub enum StatusFileError {
    /// The document can't be put as JSON.
    #[error("cannot write the status as JSON")]
    Json(#[from] serde_json::Error),
    /// The file can't be replaced.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Replaces the status file at the absolute `path`, readable for all: no secret stands in it.
///
/// # Errors
///
/// If the file can't be replaced.
pub fn write(path: &Path, status: &StatusDocument) -> Result<(), StatusFileError> {
    let mut text = serde_json::to_vec_pretty(status)?;
    text.push(b'\n');
    atomic::write(path, &text, Access::mode(0o644))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::observe::alert::testing::status;

    #[test]
    fn everybody_can_read_the_status_and_gets_all_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("status.json");
        let written = status(Vec::new());
        write(&path, &written).unwrap();
        let read: StatusDocument = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(read, written);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
    }
}
