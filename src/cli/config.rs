//! `renewd config show|reference|schema`.

use crate::config;
use crate::model::CertificateName;

use super::arguments::Global;
use super::context::{Context, Ended, selected};
use super::exit::Exit;
use super::output;

/// Shows what is in force, and where it comes from.
pub(super) fn show(global: &Global, name: Option<&CertificateName>) -> Result<Exit, Ended> {
    let context = Context::load(global)?;
    if let Some(name) = name {
        selected(&context.config, std::slice::from_ref(name))?;
    }
    output::data(&config::show(&context.config, name));
    Ok(Exit::AsWanted)
}

/// Shows every key.
pub(super) fn reference() -> Exit {
    output::data(&config::reference());
    Exit::AsWanted
}

/// Shows the JSON Schema.
pub(super) fn schema() -> Exit {
    output::json(&config::schema());
    Exit::AsWanted
}
