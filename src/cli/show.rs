//! `renewd show NAME`: everything about one certificate.

use crate::model::CertificateName;
use crate::observe::text::{self, Files};
use crate::sys::clock::{Clock, SystemClock};

use super::arguments::Global;
use super::context::{Context, Ended, selected};
use super::exit::Exit;
use super::{output, status};

/// Shows `name`.
pub(super) async fn show(global: &Global, name: CertificateName) -> Result<Exit, Ended> {
    let context = Context::load_to_look(global)?;
    let specs = selected(&context.config, std::slice::from_ref(&name))?;
    let certs_dir = context.config.store.certs_dir();
    let folder = |name: &CertificateName| certs_dir.join(name.as_str()).join("current");
    let current = folder(&name);
    let paired_with = specs.first().and_then(|it| it.paired_with.clone());
    let paired = paired_with.map(|it| (folder(&it), it));
    let has_key = specs.first().is_none_or(|it| it.request().is_none());
    let document = status::document(context, false).await?;
    let Some(certificate) = status::only(document, &name) else {
        output::problem(&format!("nothing is known of {name} yet"), Some("run `renewd renew`"));
        return Ok(Exit::Failed);
    };
    if global.json {
        output::json(&certificate);
    } else {
        let now = SystemClock::new().now();
        let paired = paired.as_ref().map(|(folder, name)| (name, folder.as_path()));
        let files = Files { current: &current, paired, has_key };
        output::data(&text::show(&certificate, files, now, output::look(global)));
    }
    Ok(Exit::AsWanted)
}
