//! What is said on the deployer's socket: one request and one answer for each connection, a line of
//! JSON each.
//!
//! A request names things and carries no content. A line that is longer than its bound, or says
//! anything that is not known, is refused whole.
//!
//! Not here: who may ask ([`super::serve`]), and when ([`super::remote`]).

use std::io;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::{DeployRequest, Installed};
use crate::model::{CertificateName, Explain, Generation, Retry, TargetName, chain_text, escaped};

/// The version of both lines; another one is refused.
pub(super) const VERSION: u32 = 1;
/// The longest request, in bytes, its end of line included.
pub(super) const MAX_REQUEST: usize = 4 * 1024;
/// The longest answer, in bytes, its end of line included.
pub(super) const MAX_ANSWER: usize = 64 * 1024;

/// What the deployer can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verb {
    /// Say whether the target could be handed a new certificate. It is asked before there is one:
    /// the generation counts for nothing.
    Check,
    /// Put the target's files in place.
    Install,
    /// Run the target's test.
    Test,
    /// Tell the target's server to load its files.
    Reload,
    /// Put back the files that the last install replaced.
    PutBack,
}

impl Verb {
    /// As it is written.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Install => "install",
            Self::Test => "test",
            Self::Reload => "reload",
            Self::PutBack => "put_back",
        }
    }
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    pub(super) version: u32,
    pub(super) verb: Verb,
    pub(super) certificate: CertificateName,
    pub(super) generation: Generation,
    pub(super) target: TargetName,
}

impl Request {
    pub(super) fn new(verb: Verb, request: &DeployRequest) -> Self {
        let DeployRequest { certificate, generation, target } = request.clone();
        Self { version: VERSION, verb, certificate, generation, target }
    }

    /// Whether `certificate` could be handed to `target`. 0 is no generation's label.
    pub(super) fn check(certificate: &CertificateName, target: &TargetName) -> Self {
        let (certificate, target) = (certificate.clone(), target.clone());
        let generation = Generation(0);
        Self { version: VERSION, verb: Verb::Check, certificate, generation, target }
    }

    /// What it names.
    pub(super) fn deploy_request(&self) -> DeployRequest {
        let Self { certificate, generation, target, .. } = self.clone();
        DeployRequest { certificate, generation, target }
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Answer {
    pub(super) version: u32,
    pub(super) result: Outcome,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    /// The files are in place.
    Installed(Installed),
    /// Done; there is nothing more to say.
    Done,
    /// It failed, or was refused.
    Failed(Complaint),
}

/// Why something was not done, as the deployer tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Complaint {
    /// A stable word for programs.
    pub code: String,
    /// The error and its causes, in one line, with the end of what a program printed.
    pub message: String,
    /// What a human can do.
    pub hint: Option<String>,
    /// Whether nothing is expected to help but a change by a human.
    pub needs_change: bool,
}

impl Complaint {
    /// What `error` says of itself.
    #[must_use]
    pub fn of(error: &impl Explain) -> Self {
        Self {
            code: error.code().to_owned(),
            message: chain_text(error),
            hint: error.hint(),
            needs_change: error.retry() == Retry::AfterChange,
        }
    }

    /// A refusal that says why in `message`, and in `hint` what to do.
    #[must_use]
    pub fn refusal(message: &str, hint: &str) -> Self {
        Self {
            code: REFUSED.to_owned(),
            message: escaped(message),
            hint: Some(hint.to_owned()),
            needs_change: false,
        }
    }

    /// Whether it is about our words and not about what they ask for: so an older deployer answers
    /// to a verb that it does not know.
    pub(super) fn is_about_words(&self) -> bool {
        self.code == REFUSED && self.message.starts_with(NOT_UNDERSTOOD)
    }
}

/// The code of refusals that have no better one.
pub(super) const REFUSED: &str = "deploy.refused";
/// How the refusal of a line begins that says anything that is not known. For ever: newer daemons
/// go by it.
const NOT_UNDERSTOOD: &str = "the line is not understood";

/// A line could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// The connection broke.
    #[error("the connection broke")]
    Broken(#[source] io::Error),
    /// It ended before anything was said.
    #[error("nothing was said")]
    Nothing,
    /// It ended before the line did.
    #[error("the connection ended before the line did")]
    Cut,
    /// The line is too long.
    #[error("the line is longer than {0} bytes")]
    TooLong(usize),
    /// Something follows the line.
    #[error("something follows the line: a connection is for one request")]
    More,
    /// The line is not what is expected.
    #[error("{NOT_UNDERSTOOD}")]
    Strange(#[source] serde_json::Error),
    /// It is of another version of the program.
    #[error("the line is of version {0}, and {VERSION} is spoken here")]
    Version(u32),
}

/// Reads from `stream` to the end of a line of at most `limit` bytes, and takes it for a `T`.
///
/// # Errors
///
/// [`LineError`].
pub(super) async fn read<T: DeserializeOwned>(
    stream: &mut (impl AsyncRead + Unpin),
    limit: usize,
) -> Result<T, LineError> {
    let mut line = Vec::new();
    let mut buffer = vec![0; 4096];
    loop {
        let count = stream.read(&mut buffer).await.map_err(LineError::Broken)?;
        if count == 0 {
            return Err(if line.is_empty() { LineError::Nothing } else { LineError::Cut });
        }
        line.extend(buffer.iter().take(count));
        let end = line.iter().take(limit).position(|it| *it == b'\n');
        match end {
            Some(end) if end + 1 < line.len() => return Err(LineError::More),
            Some(_) => return serde_json::from_slice(&line).map_err(LineError::Strange),
            None if line.len() >= limit => return Err(LineError::TooLong(limit)),
            None => {}
        }
    }
}

/// `line` as it is sent.
///
/// # Errors
///
/// None for the lines of this module.
pub(super) fn line(line: &impl Serialize) -> Result<Vec<u8>, LineError> {
    let mut text = serde_json::to_vec(line).map_err(LineError::Strange)?;
    text.push(b'\n');
    Ok(text)
}

/// `outcome` as it is sent; what is too long to say is cut.
///
/// # Errors
///
/// As [`line()`].
pub(super) fn answer(outcome: Outcome) -> Result<Vec<u8>, LineError> {
    let mut answer = Answer { version: VERSION, result: outcome };
    if let Outcome::Failed(complaint) = &mut answer.result {
        // In JSON a character is at most six bytes, so that a third of this is left for the rest.
        let longest = MAX_ANSWER / 16;
        for text in std::iter::once(&mut complaint.message).chain(&mut complaint.hint) {
            if text.len() > longest {
                *text = text.chars().take(longest / 4).chain(['…']).collect();
            }
        }
    }
    line(&answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str =
        r#"{"version":1,"verb":"put_back","certificate":"site","generation":7,"target":"nginx"}"#;

    async fn parse(text: &[u8]) -> Result<Request, LineError> {
        read(&mut &text[..], MAX_REQUEST).await
    }

    #[tokio::test]
    async fn a_request_is_a_line_that_comes_back_as_it_was() {
        let request = parse(format!("{GOOD}\n").as_bytes()).await.unwrap();
        assert_eq!(request.verb.as_str(), "put_back");
        let deploy_request = request.deploy_request();
        assert_eq!(deploy_request.generation, Generation(7));
        let again = line(&Request::new(Verb::PutBack, &deploy_request)).unwrap();
        assert_eq!(String::from_utf8(again).unwrap(), format!("{GOOD}\n"));
    }

    #[tokio::test]
    async fn what_is_not_known_is_refused_whole() {
        for (wrong, replacement) in [
            ("put_back", "exec"),
            ("put_back", "repair"),
            ("site", "../etc"),
            ("site", "a\\u0000b"),
            ("nginx", "a/b"),
            ("nginx", ""),
            ("7", "-1"),
            ("7", "4294967296"),
            ("7", "\"0007/../0001\""),
            ("\"version\":1,", ""),
            ("\"version\"", "\"path\":\"/etc/shadow\",\"version\""),
            ("\"target\"", "\"certificate\":\"other\",\"target\""),
            ("{", "[{"),
        ] {
            let text = GOOD.replacen(wrong, replacement, 1) + "\n";
            let error = parse(text.as_bytes()).await.unwrap_err();
            assert!(matches!(error, LineError::Strange(_)), "{text}: {error}");
            // Newer daemons than this deployer know by it that they are not understood.
            let complaint = Complaint::refusal(&chain_text(&error), "");
            assert!(complaint.is_about_words(), "{complaint:?}");
        }
    }

    #[tokio::test]
    async fn a_line_has_an_end_and_a_bound_and_nothing_after_it() {
        assert!(matches!(parse(b"").await, Err(LineError::Nothing)));
        assert!(matches!(parse(GOOD.as_bytes()).await, Err(LineError::Cut)));
        let two = format!("{GOOD}\n{GOOD}\n");
        assert!(matches!(parse(two.as_bytes()).await, Err(LineError::More)));
        let padded = |length: usize| format!("{GOOD}{}\n", " ".repeat(length - GOOD.len() - 1));
        assert!(parse(padded(MAX_REQUEST).as_bytes()).await.is_ok());
        let long = padded(MAX_REQUEST + 1);
        assert!(matches!(parse(long.as_bytes()).await, Err(LineError::TooLong(_))));
        assert!(matches!(parse(&[0xff; 5000]).await, Err(LineError::TooLong(_))));
    }

    #[tokio::test]
    async fn the_longest_answer_fits_its_bound_and_is_read_again() {
        let message = "\u{1}\"é".repeat(MAX_ANSWER);
        let mut complaint = Complaint::refusal("", &message);
        complaint.message = message;
        let text = answer(Outcome::Failed(complaint)).unwrap();
        assert!(text.len() <= MAX_ANSWER, "{}", text.len());
        let read: Answer = read(&mut &text[..], MAX_ANSWER).await.unwrap();
        assert!(matches!(read.result, Outcome::Failed(it) if it.message.ends_with('…')));
    }
}
