//! Puts right what somebody else did to a certificate's folder.
//!
//! # Rules
//!
//! 1. Of a generation from which a pair can be salvaged, every file that is missing or differs is
//!    written anew, and modes and groups are set.
//! 2. A `current` that leads to no whole generation is pointed to the one that is valid longest;
//!    if there has never been a generation, to the placeholder.
//! 3. Nothing is removed.
//!
//! Not here: deciding that a new certificate is needed because nothing can be repaired.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::HeldError;
use super::error::storage;
use super::file;
use super::generation::{self, FULL_CHAIN, META, PRIVATE_KEY, Rendered, Rights};
use super::lineage::{LINEAGE_MODE, Lineage, Slot};
use crate::model::pem::MAX_PEM_BYTES;
use crate::model::{StorageError, Timestamp};
use crate::sys::atomic::{self, Access};
use crate::sys::user;

/// Where a description of a generation is kept that could not be understood.
const META_ASIDE: &str = "meta.json.corrupt";

/// Repairs `lineage`, and says what there was to do.
pub(super) fn repair(
    lineage: &Lineage,
    rights: &Rights,
    now: Timestamp,
) -> Result<Option<String>, StorageError> {
    let root = lineage.root();
    let Ok(metadata) = root.symlink_metadata() else { return Ok(None) };
    let mut done = Vec::new();

    if metadata.is_dir() && file::mode(&metadata) != LINEAGE_MODE {
        atomic::directory(root, Access::mode(LINEAGE_MODE)).map_err(storage("repair", root))?;
        done.push(format!("the folder had mode {:03o}", file::mode(&metadata)));
    }
    let labels = lineage.labels().map_err(storage("list", root))?;
    let slots = labels.into_iter().map(Slot::Generation).chain([Slot::Placeholder]);
    for slot in slots {
        let directory = lineage.directory(slot);
        for fault in repair_generation(&directory, rights)? {
            done.push(format!("{}: {fault}", slot.name()));
        }
    }
    done.extend(repair_link(lineage, now)?);
    Ok((!done.is_empty()).then(|| done.join("; ")))
}

/// Repairs the generation in `directory`; says what was wrong.
fn repair_generation(directory: &Path, rights: &Rights) -> Result<Vec<String>, StorageError> {
    let mut faults = Vec::new();
    let is_folder = directory.symlink_metadata().is_ok_and(|it| it.is_dir());
    if !is_folder {
        return Ok(faults);
    }
    let whole = generation::read(directory);
    // A disk that can't be read now is no reason to write to it.
    if whole.as_ref().is_err_and(HeldError::is_systems_fault) {
        return Ok(faults);
    }
    let Some(rendered) = generation::salvage(directory) else { return Ok(faults) };
    repair_files(directory, rights, &rendered, whole.is_ok(), &mut faults)?;

    let metadata = directory.symlink_metadata().map_err(storage("look at", directory))?;
    if !rights.folder_is_right(file::mode(&metadata), metadata.gid()) {
        rights.set_folder(directory, Some(metadata.gid()))?;
        faults.push(format!(
            "the folder had mode {:03o} and group {}",
            file::mode(&metadata),
            metadata.gid()
        ));
    }
    Ok(faults)
}

fn repair_files(
    directory: &Path,
    rights: &Rights,
    rendered: &Rendered,
    is_whole: bool,
    faults: &mut Vec<String>,
) -> Result<(), StorageError> {
    for (name, content) in &rendered.files {
        let path = directory.join(name);
        let (mode, group) = (rights.mode(name), rights.group_id());
        match file::read(&path, MAX_PEM_BYTES) {
            Ok(found) => {
                // What a generation is made of stays as it was written, if it is whole: another
                // version may have written it with more in it.
                let is_source = match *name {
                    FULL_CHAIN | PRIVATE_KEY => is_whole,
                    META => generation::read_meta(directory).is_ok_and(|it| it.is_some()),
                    _ => false,
                };
                let as_written = is_source || found.bytes == *content;
                let right_group = found.group == group;
                let right_owner = found.owner == user::own_user_id();
                if as_written && found.mode == mode && right_group && right_owner {
                    continue;
                }
                let bytes = if as_written { &found.bytes } else { content };
                if *name == META && !as_written {
                    // It can't be understood; a reader of tomorrow may see more in it.
                    let aside = directory.join(META_ASIDE);
                    atomic::rename(&path, &aside).map_err(storage("move aside", &path))?;
                }
                if right_group {
                    rights.write(&path, bytes)?;
                } else {
                    rights.write_with_group(&path, bytes)?;
                }
                faults.push(if as_written {
                    format!(
                        "{name} had mode {:03o}, owner {} and group {}",
                        found.mode, found.owner, found.group
                    )
                } else {
                    format!("{name} had been changed")
                });
            }
            Err(error) => {
                rights.write(&path, content)?;
                let fault = if error.is_absent() { "was missing" } else { "could not be read" };
                faults.push(format!("{name} {fault}"));
            }
        }
    }
    Ok(())
}

/// Points `current` to a whole generation if it doesn't; says what was wrong.
fn repair_link(lineage: &Lineage, now: Timestamp) -> Result<Option<String>, StorageError> {
    let error = match lineage.held() {
        Ok(_) => return Ok(None),
        Err(error) if error.is_systems_fault() => return Ok(None),
        Err(error) => error,
    };
    let Some(slot) = best(lineage)? else { return Ok(None) };
    let current = lineage.current_path();
    // A folder that was copied into the link's place can't be replaced by a rename; it may be
    // somebody's only copy of something, so it is kept.
    if current.symlink_metadata().is_ok_and(|it| it.is_dir()) {
        let seconds = now.unix_seconds();
        let aside = current.with_file_name(format!("current.aside-{seconds}"));
        atomic::rename(&current, &aside).map_err(storage("move aside", &current))?;
    }
    lineage.switch(slot)?;
    let name = slot.name();
    let why = match error {
        HeldError::LinkMissing(_) => "was missing",
        HeldError::StrangeLink(_) => "was not a link to a generation",
        _ => "led to no usable generation",
    };
    Ok(Some(format!("current {why}, and points to {name} now")))
}

/// The whole generation that is valid longest, else the placeholder if there is no generation.
fn best(lineage: &Lineage) -> Result<Option<Slot>, StorageError> {
    let whole = lineage.whole()?;
    let longest = whole.iter().max_by_key(|(label, it)| (it.leaf.validity.not_after, *label));
    if let Some((generation, _)) = longest {
        return Ok(Some(Slot::Generation(*generation)));
    }
    // With broken generations about, a server may still serve one of them: no placeholder over it.
    let never = lineage.labels().map_err(storage("list", lineage.root()))?.is_empty();
    let placeholder = never && generation::read(&lineage.directory(Slot::Placeholder)).is_ok();
    Ok(placeholder.then_some(Slot::Placeholder))
}
