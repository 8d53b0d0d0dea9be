//! `renewd show NAME`: everything about one certificate.

use crate::model::CertificateName;
use crate::observe::text;
use crate::sys::clock::{Clock, SystemClock};

use super::arguments::Global;
use super::context::{Context, Ended, selected};
use super::exit::Exit;
use super::{output, status};

/// Shows `name`.
pub(super) async fn show(global: &Global, name: CertificateName) -> Result<Exit, Ended> {
    let context = Context::load_to_look(global)?;
    selected(&context.config, std::slice::from_ref(&name))?;
    let folder = context.config.store.certs_dir().join(name.as_str()).join("current");
    let document = status::document(context, false).await?;
    let Some(certificate) = status::only(document, &name) else {
        output::problem(&format!("nothing is known of {name} yet"), Some("run `renewd renew`"));
        return Ok(Exit::Failed);
    };
    if global.json {
        output::json(&certificate);
    } else {
        let now = SystemClock::new().now();
        output::data(&text::show(&certificate, &folder, now, output::look(global)));
    }
    Ok(Exit::AsWanted)
}
