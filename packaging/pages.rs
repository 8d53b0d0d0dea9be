//! Writes the man pages and the completions for shells into a folder.
//!
//! ```text
//! cargo run --example pages -- target/pages
//! ```
//!
//! All of them come from the program's own types: `renewd(1)` and a page for each command from the
//! arguments, `renewd.toml(5)` from the reference of the configuration. So a page can't say what
//! the program does not do.
//!
//! Not here: where packages put the files (`Cargo.toml`), and whether man(1) likes them
//! (`tests/package.sh`).

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it is there to print")]

use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, roman};
use renewd::cli::arguments::Arguments;
use renewd::config;
use renewd::model::chain_text;
use renewd::sys::atomic::{self, Access};

type Outcome<T> = Result<T, Box<dyn Error>>;

const MANUAL: &str = "renewd manual";

const SIGNALS: [(&str, &str); 3] = [
    ("SIGHUP", "The daemon reads its configuration again; one with faults is refused."),
    ("SIGTERM, SIGINT", "The daemon ends within 20 s. The next start goes on where it was."),
    (
        "SIGTERM, SIGINT, SIGHUP",
        "`renew`, `deploy` and `dns test` without a daemon, and `renew --dry-run`, end within \
         some seconds, with exit code 1: programs are ended, proofs taken away, and the next run \
         goes on where it was. A second SIGTERM or SIGINT ends them at once.",
    ),
];

const FILES: [(&str, &str); 6] = [
    ("/etc/renewd/renewd.toml", "The configuration; more below conf.d, by `include`."),
    (
        "/var/lib/renewd/certs/NAME/current",
        "The link that a renewal switches. Behind it: fullchain.pem, cert.pem, chain.pem, \
         privkey.pem and combined.pem.",
    ),
    ("/var/lib/renewd/private", "Account keys, orders on their way, failures, alerts to deliver."),
    ("/run/renewd/acme-challenge", "What proves control of a name, for a web server to show."),
    ("/run/renewd/control.sock", "For commands: root and the group renewd-admin."),
    (
        "/run/renewd/status.json",
        "How everything stands, without secrets: kept by the daemon, or left by the last run of \
         `renewd renew`, `renewd deploy` or `renewd revoke`.",
    ),
];

const CONFIGURATION: [&str; 5] = [
    "The file is TOML, or JSON if its name ends in `.json`. Unknown keys are refused, and `renewd \
     check` names every fault with its line. A running daemon keeps its configuration until the \
     new one has no fault.",
    "Spans of time are strings with a unit, such as `30s`. Shares are strings such as `1/4`, of a \
     certificate's life. Relative paths are relative to the file they stand in. Names of \
     certificates, CAs, solvers and targets are made of lower-case letters, digits, dots, dashes \
     and underscores.",
    "Files of `include` hold tables only. A fault in one of them refuses the entry that it stands \
     in: a running daemon keeps its last good version, and after a start it is neither renewed \
     nor watched until it is mended. Lists of tables append over files; a table named \
     twice is a fault.",
    "What a certificate does not say comes from its `group`, then from `[defaults]`, then from \
     what is built in. `renewd config show` prints what is in force and where it comes from.",
    "No secret stands in the file: keys that end in `_file` name a file that others can't read, \
     those in `_credential` a credential of systemd's, those in `_env` a variable.",
];

fn main() -> ExitCode {
    let Some(folder) = env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: pages FOLDER");
        return ExitCode::from(2);
    };
    match write_all(&folder) {
        Ok(count) => {
            println!("{count} files in {}", folder.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}", chain_text(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// Writes everything below `folder`, and says how many files that are.
fn write_all(folder: &Path) -> Outcome<usize> {
    let mut program = Arguments::command().disable_help_subcommand(true);
    program.build();
    let mut files = vec![("man/renewd.1".to_owned(), main_page(&program)?)];
    shown(&program).try_for_each(|it| command_pages(it, &mut files))?;
    files.push(("man/renewd.toml.5".to_owned(), configuration_page()?));
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut program, "renewd", &mut text);
        files.push((completion_name(shell), text));
    }

    let mode = Access::mode(0o755);
    atomic::directory(&folder.join("man"), mode)?;
    for (name, content) in &files {
        atomic::write(&folder.join(name), content, Access::mode(0o644))?;
    }
    Ok(files.len())
}

/// The name that a shell looks for, as far as packages can't give it.
fn completion_name(shell: Shell) -> String {
    match shell {
        Shell::Zsh => "_renewd".to_owned(),
        shell => format!("renewd.{shell}"),
    }
}

/// `renewd(1)`: all of the program, with what no single command could say.
fn main_page(program: &Command) -> Outcome<Vec<u8>> {
    let page = Man::new(program.clone()).manual(MANUAL);
    let mut text = Vec::new();
    page.render_title(&mut text)?;
    page.render_name_section(&mut text)?;
    page.render_synopsis_section(&mut text)?;
    page.render_description_section(&mut text)?;
    page.render_options_section(&mut text)?;
    page.render_subcommands_section(&mut text)?;

    let mut roff = Roff::new();
    let help = program.get_after_help().map(ToString::to_string).unwrap_or_default();
    let codes = help.trim_start_matches("Exit codes: ").trim_end_matches('.');
    section(&mut roff, "EXIT STATUS", codes.split("; ").filter_map(|it| it.split_once(' ')));
    section(&mut roff, "SIGNALS", SIGNALS);
    section(&mut roff, "FILES", FILES);
    see_also(&mut roff, "renewd.toml(5), systemctl(1), journalctl(1)");
    roff.to_writer(&mut text)?;
    Ok(text)
}

/// The page of one command, and below it those of its own commands.
fn command_pages(command: &Command, pages: &mut Vec<(String, Vec<u8>)>) -> Outcome<()> {
    let page = Man::new(command.clone()).manual(MANUAL);
    let mut text = Vec::new();
    page.render(&mut text)?;
    let mut roff = Roff::new();
    see_also(&mut roff, "renewd(1), renewd.toml(5)");
    roff.to_writer(&mut text)?;
    pages.push((format!("man/{}", page.get_filename()), text));
    shown(command).try_for_each(|it| command_pages(it, pages))
}

fn shown(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|it| !it.is_hide_set())
}

/// `renewd.toml(5)`: what `renewd config reference` prints, as a page.
fn configuration_page() -> Outcome<Vec<u8>> {
    let mut roff = Roff::new();
    let source = concat!("renewd ", env!("CARGO_PKG_VERSION"));
    roff.control("TH", ["renewd.toml", "5", "", source, MANUAL]);
    roff.control("SH", ["NAME"]);
    roff.text([roman("renewd.toml - configuration of the TLS certificate agent renewd")]);
    roff.control("SH", ["DESCRIPTION"]);
    for paragraph in CONFIGURATION {
        roff.control("PP", []);
        roff.text(words(paragraph));
    }
    roff.control("SH", ["SMALLEST CONFIGURATION"]);
    roff.control("EX", []);
    for line in include_str!("../examples/minimal.toml").lines() {
        roff.text([roman(line)]);
    }
    roff.control("EE", []);
    roff.control("SH", ["KEYS OF THE MAIN FILE"]);
    let reference = config::reference();
    // The first paragraph says how to read the others, as a file.
    for paragraph in reference.split("\n\n").skip(1) {
        push_paragraph(&mut roff, paragraph);
    }
    section(&mut roff, "FILES", FILES);
    see_also(&mut roff, "renewd(1), renewd-check(1), renewd-config(1)");
    let mut text = Vec::new();
    roff.to_writer(&mut text)?;
    Ok(text)
}

/// One table's header or one key of the reference: lines of comment, then the line itself with a
/// `#` before it.
fn push_paragraph(roff: &mut Roff, paragraph: &str) {
    let is_comment = |it: &&str| it.starts_with("# ");
    let comment: Vec<&str> =
        paragraph.lines().filter(is_comment).map(|it| it.trim_start_matches('#').trim()).collect();
    let comment = comment.join(" ");
    for line in paragraph.lines().filter(|it| !is_comment(it)) {
        let line = line.trim_start_matches('#').trim();
        let Some((key, value)) = line.split_once(" = ").filter(|_| !line.starts_with('[')) else {
            roff.control("SH", [line]);
            roff.text(words(&capitalized(&comment)));
            continue;
        };
        roff.control("TP", []);
        match value.strip_suffix("  # example") {
            Some(example) => roff.text([bold(key), roman(format!(" (such as {example})"))]),
            None => roff.text([bold(key), roman(format!(" (default {value})"))]),
        };
        roff.text(words(&comment));
    }
}

/// A section of terms with what each means.
fn section<'a>(roff: &mut Roff, name: &str, rows: impl IntoIterator<Item = (&'a str, &'a str)>) {
    roff.control("SH", [name]);
    for (term, meaning) in rows {
        roff.control("TP", []);
        roff.text([bold(term)]);
        roff.text(words(&capitalized(meaning)));
    }
}

fn see_also(roff: &mut Roff, pages: &str) {
    roff.control("SH", ["SEE ALSO"]);
    roff.text([roman(pages)]);
}

/// `text` with what stands between backticks in bold.
fn words(text: &str) -> Vec<Inline> {
    let parts = text.split('`').enumerate();
    parts.map(|(at, part)| if at % 2 == 1 { bold(part) } else { roman(part) }).collect()
}

/// `text` as a sentence of its own.
fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|it| it.to_uppercase().to_string()).unwrap_or_default();
    let end = if text.ends_with('.') { "" } else { "." };
    format!("{first}{}{end}", letters.as_str())
}
