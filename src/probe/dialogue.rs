//! The plain words that are exchanged before TLS begins (STARTTLS and its kin).
//!
//! Nothing is read past the last plain byte, so that what a server (or somebody between) sends
//! ahead of the handshake breaks the handshake and is not mistaken for part of it. At most
//! [`MAX_BYTES`] are read in all; the time is bounded by the caller.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::StartTls;
use crate::model::escaped;

/// How many bytes a server may say before TLS begins.
const MAX_BYTES: usize = 16 * 1024;

/// How much of an unexpected answer is repeated in a message, in characters.
const MAX_QUOTED: usize = 120;

/// A server did not agree to begin TLS.
#[derive(Debug, thiserror::Error)]
pub enum DialogueError {
    /// It answered something else.
    #[error("{step} was answered by {answer:?}")]
    Refused {
        /// What it was asked.
        step: &'static str,
        /// Its answer, cut and escaped.
        answer: String,
    },
    /// It said more than a server has to say.
    #[error("it says more than {MAX_BYTES} bytes before TLS begins")]
    TooLong,
    /// The connection broke.
    #[error("the connection broke off")]
    Broken(#[source] std::io::Error),
}

/// Brings `stream` to where the TLS handshake begins.
///
/// # Errors
///
/// [`DialogueError`]; the stream is of no more use then.
pub(super) async fn upgrade(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin + Send),
    protocol: StartTls,
) -> Result<(), DialogueError> {
    let mut talk = Talk { stream, read: 0 };
    match protocol {
        StartTls::Smtp => talk.smtp().await,
        StartTls::Imap => talk.imap().await,
        StartTls::Pop3 => talk.pop3().await,
        StartTls::Ftp => talk.ftp().await,
        StartTls::Ldap => talk.ldap().await,
        StartTls::Postgresql => talk.postgresql().await,
    }
}

/// Message 1, an extended request with the OID of `StartTLS` (RFC 4511 §4.14.1), in BER.
const LDAP_START_TLS: &[u8] = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037";

/// Its length, and the number that stands for `SSLRequest`.
const POSTGRESQL_SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// A connection on which we count what we have heard.
struct Talk<'a, S> {
    stream: &'a mut S,
    read: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Talk<'_, S> {
    async fn smtp(&mut self) -> Result<(), DialogueError> {
        self.expect_code("the greeting", "220").await?;
        self.say(b"EHLO localhost\r\n").await?;
        self.expect_code("EHLO", "250").await?;
        self.say(b"STARTTLS\r\n").await?;
        self.expect_code("STARTTLS", "220").await
    }

    async fn imap(&mut self) -> Result<(), DialogueError> {
        self.expect_line("the greeting", "* OK").await?;
        self.say(b"a1 STARTTLS\r\n").await?;
        self.expect_tagged("STARTTLS", "a1").await
    }

    async fn pop3(&mut self) -> Result<(), DialogueError> {
        self.expect_line("the greeting", "+OK").await?;
        self.say(b"STLS\r\n").await?;
        self.expect_line("STLS", "+OK").await
    }

    async fn ftp(&mut self) -> Result<(), DialogueError> {
        self.expect_code("the greeting", "220").await?;
        self.say(b"AUTH TLS\r\n").await?;
        self.expect_code("AUTH TLS", "234").await
    }

    async fn ldap(&mut self) -> Result<(), DialogueError> {
        self.say(LDAP_START_TLS).await?;
        self.expect_ldap_success().await
    }

    async fn postgresql(&mut self) -> Result<(), DialogueError> {
        self.say(&POSTGRESQL_SSL_REQUEST).await?;
        match self.byte().await? {
            b'S' => Ok(()),
            other => Err(refused("SSLRequest", &[other])),
        }
    }

    async fn say(&mut self, words: &[u8]) -> Result<(), DialogueError> {
        self.stream.write_all(words).await.map_err(DialogueError::Broken)?;
        self.stream.flush().await.map_err(DialogueError::Broken)
    }

    async fn byte(&mut self) -> Result<u8, DialogueError> {
        if self.read >= MAX_BYTES {
            return Err(DialogueError::TooLong);
        }
        self.read += 1;
        self.stream.read_u8().await.map_err(DialogueError::Broken)
    }

    /// One line without its end.
    async fn line(&mut self) -> Result<Vec<u8>, DialogueError> {
        let mut line = Vec::new();
        loop {
            match self.byte().await? {
                b'\n' => return Ok(line),
                b'\r' => {}
                byte => line.push(byte),
            }
        }
    }

    /// A reply of one or more lines (RFC 5321 §4.2.1, RFC 959 §4.2): it ends with `code` and a
    /// space, or the bare code.
    async fn expect_code(&mut self, step: &'static str, code: &str) -> Result<(), DialogueError> {
        let mut first: Option<Vec<u8>> = None;
        loop {
            let line = self.line().await?;
            let opening = first.get_or_insert_with(|| line.clone());
            if !opening.starts_with(code.as_bytes()) {
                return Err(refused(step, opening));
            }
            // In FTP the lines between may hold anything.
            let rest = line.strip_prefix(code.as_bytes());
            if rest.is_some_and(|it| it.is_empty() || it.starts_with(b" ")) {
                return Ok(());
            }
            if opening.get(code.len()) != Some(&b'-') {
                return Err(refused(step, opening));
            }
        }
    }

    async fn expect_line(&mut self, step: &'static str, start: &str) -> Result<(), DialogueError> {
        let line = self.line().await?;
        let prefix = line.get(..start.len()).unwrap_or_default();
        let fits = prefix.eq_ignore_ascii_case(start.as_bytes());
        if fits { Ok(()) } else { Err(refused(step, &line)) }
    }

    /// An answer with our `tag`; lines without it are passed over (RFC 9051 §2.2.2).
    async fn expect_tagged(&mut self, step: &'static str, tag: &str) -> Result<(), DialogueError> {
        loop {
            let line = self.line().await?;
            let text = String::from_utf8_lossy(&line);
            let mut words = text.split(' ');
            match (words.next(), words.next()) {
                (Some("*"), _) => {}
                (Some(word), Some(answer)) if word == tag && answer.eq_ignore_ascii_case("OK") => {
                    return Ok(());
                }
                _ => return Err(refused(step, &line)),
            }
        }
    }

    /// An `ExtendedResponse` to message 1 with the result code success (RFC 4511 §4.1.9, §4.12).
    async fn expect_ldap_success(&mut self) -> Result<(), DialogueError> {
        const STEP: &str = "StartTLS";
        let tag = self.byte().await?;
        let length = match self.byte().await? {
            short @ 0..=0x7f => usize::from(short),
            0x81 => usize::from(self.byte().await?),
            0x82 => usize::from(u16::from_be_bytes([self.byte().await?, self.byte().await?])),
            // Servers like to write four bytes whatever the length (Active Directory does).
            0x84 => {
                let mut bytes = [0; 4];
                for byte in &mut bytes {
                    *byte = self.byte().await?;
                }
                usize::try_from(u32::from_be_bytes(bytes)).unwrap_or(usize::MAX)
            }
            other => return Err(refused(STEP, &[tag, other])),
        };
        if length > MAX_BYTES {
            return Err(DialogueError::TooLong);
        }
        let mut message = Vec::new();
        for _ in 0..length {
            message.push(self.byte().await?);
        }
        if tag == 0x30 && ldap_result(&message) == Some(0) {
            return Ok(());
        }
        Err(refused(STEP, &message))
    }
}

/// The result code in the body of an LDAP message 1 that is an `ExtendedResponse`.
fn ldap_result(message: &[u8]) -> Option<u8> {
    let response = message.strip_prefix(&[0x02, 0x01, 0x01, 0x78])?;
    let (length, content) = response.split_first()?;
    // The long form says in its low bits how many bytes of length follow.
    let skipped = if *length < 0x80 { 0 } else { usize::from(*length & 0x7f) };
    match content.get(skipped..)? {
        [0x0a, 0x01, code, ..] => Some(*code),
        _ => None,
    }
}

fn refused(step: &'static str, answer: &[u8]) -> DialogueError {
    let answer = escaped(&String::from_utf8_lossy(answer)).chars().take(MAX_QUOTED).collect();
    DialogueError::Refused { step, answer }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Just, any, prop_oneof, proptest};

    use super::*;

    /// What we say to a server that sends `script` whatever we say, and what is left of it unread.
    async fn talk(
        protocol: StartTls,
        script: &[u8],
    ) -> (Result<(), DialogueError>, Vec<u8>, Vec<u8>) {
        let (mut unread, mut said) = (script, Vec::new());
        let result = upgrade(&mut tokio::io::join(&mut unread, &mut said), protocol).await;
        (result, said, unread.to_vec())
    }

    #[track_caller]
    fn check(protocol: StartTls, script: &[u8], expected: &[u8]) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let script = [script, b"\x16handshake"].concat();
        let (result, said, unread) = runtime.block_on(talk(protocol, &script));
        result.unwrap();
        assert_eq!(said, expected);
        assert_eq!(unread, b"\x16handshake", "read past the last plain byte");
    }

    #[track_caller]
    fn check_refused(protocol: StartTls, script: &[u8], message: &str) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (result, _, _) = runtime.block_on(talk(protocol, script));
        assert_eq!(result.unwrap_err().to_string(), message);
    }

    #[test]
    fn each_protocol_reaches_the_handshake_and_reads_no_byte_of_it() {
        check(
            StartTls::Smtp,
            b"220-mail.example.com\r\n220 ready\r\n250-hello\r\n250-SIZE\r\n250 STARTTLS\r\n220 go\r\n",
            b"EHLO localhost\r\nSTARTTLS\r\n",
        );
        check(
            StartTls::Imap,
            b"* OK [CAPABILITY IMAP4rev1] ready\r\n* CAPABILITY IMAP4rev1\r\na1 OK begin\r\n",
            b"a1 STARTTLS\r\n",
        );
        check(StartTls::Pop3, b"+OK ready\r\n+OK begin\r\n", b"STLS\r\n");
        check(StartTls::Ftp, b"220-a\r\nanything\r\n220 b\r\n234 go\r\n", b"AUTH TLS\r\n");
        let success = b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00";
        check(StartTls::Ldap, success, LDAP_START_TLS);
        let long = b"\x30\x84\0\0\0\x10\x02\x01\x01\x78\x84\0\0\0\x07\x0a\x01\x00\x04\x00\x04\x00";
        check(StartTls::Ldap, long, LDAP_START_TLS);
        check(StartTls::Postgresql, b"S", &POSTGRESQL_SSL_REQUEST);
    }

    #[test]
    fn a_refusal_is_repeated_escaped_and_cut() {
        let refusal = "454 TLS not available\x1b[31m";
        check_refused(
            StartTls::Smtp,
            format!("220 ready\r\n250 hello\r\n{refusal}\r\n").as_bytes(),
            "STARTTLS was answered by \"454 TLS not available\\\\u{1b}[31m\"",
        );
        check_refused(
            StartTls::Imap,
            b"* OK hi\r\na1 BAD no\r\n",
            "STARTTLS was answered by \"a1 BAD no\"",
        );
        check_refused(StartTls::Postgresql, b"N", "SSLRequest was answered by \"N\"");
        check_refused(StartTls::Pop3, b"+OK\r\n-ERR\r\n", "STLS was answered by \"-ERR\"");
        check_refused(StartTls::Ftp, b"2200 x\r\n", "the greeting was answered by \"2200 x\"");
        let busy = b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x33\x04\x00\x04\x00";
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (result, _, _) = runtime.block_on(talk(StartTls::Ldap, busy));
        assert!(matches!(result, Err(DialogueError::Refused { .. })));
    }

    #[test]
    fn a_server_that_never_comes_to_the_point_is_cut_off() {
        let endless = b"220-and another thing\r\n".repeat(2000);
        let message = "it says more than 16384 bytes before TLS begins";
        check_refused(StartTls::Smtp, &endless, message);
        check_refused(StartTls::Ftp, &b"x".repeat(20_000), message);
        check_refused(StartTls::Ldap, b"\x30\x84\xff\xff\xff\xff", message);
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_dialogue_panic_or_hang(
            protocol in prop_oneof![
                Just(StartTls::Smtp), Just(StartTls::Imap), Just(StartTls::Pop3),
                Just(StartTls::Ftp), Just(StartTls::Ldap), Just(StartTls::Postgresql),
            ],
            start in prop_oneof![
                Just(""), Just("220 a\r\n"), Just("* OK\r\n"), Just("+OK\r\n"), Just("220-"),
                Just("\x30\x0c\x02\x01\x01\x78"),
            ],
            noise in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let script = [start.as_bytes(), &noise].concat();
            drop(runtime.block_on(talk(protocol, &script)));
        }
    }
}
