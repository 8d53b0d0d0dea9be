//! The only place that prints. Standard output is data, standard error is talk.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::model::escaped;
use crate::observe::text::Look;

use super::arguments::{Color, Global};

/// Prints `text` as data. A reader that has gone away is no fault.
pub(super) fn data(text: &str) {
    let mut stdout = io::stdout().lock();
    let end = if text.ends_with('\n') { "" } else { "\n" };
    drop(write!(stdout, "{text}{end}").and_then(|()| stdout.flush()));
}

/// Prints `value` as JSON.
pub(super) fn json(value: &impl Serialize) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => data(&text),
        Err(error) => problem(&error.to_string(), None),
    }
}

/// Tells what is going on. Where nothing can be told, as on a full disk, the work goes on.
pub(super) fn talk(text: &str) {
    drop(writeln!(io::stderr(), "{text}"));
}

/// Tells what is wrong, and what to do.
pub(super) fn problem(message: &str, hint: Option<&str>) {
    for (index, line) in message.lines().enumerate() {
        let prefix = if index == 0 { "error: " } else { "" };
        talk(&format!("{prefix}{}", escaped(line)));
    }
    if let Some(hint) = hint {
        talk(&format!("  hint: {}", escaped(hint)));
    }
}

/// `count` certificates, in words.
pub(super) fn counted(count: usize) -> String {
    let noun = if count == 1 { "certificate" } else { "certificates" };
    format!("{count} {noun}")
}

/// How what goes to standard output is to look.
#[must_use]
pub(super) fn look(global: &Global) -> Look {
    let color = match global.color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => !super::no_color() && io::stdout().is_terminal(),
    };
    let width = rustix::termios::tcgetwinsize(io::stdout()).ok().map(|it| it.ws_col);
    let width = width.filter(|it| *it > 0).unwrap_or_else(|| Look::default().width);
    Look { color, width }
}

/// Whether a human watches.
#[must_use]
pub(super) fn is_watched() -> bool {
    io::stderr().is_terminal()
}
