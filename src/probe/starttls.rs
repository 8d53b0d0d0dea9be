//! The dialogues that come before TLS in protocols that upgrade a plain connection.

use std::fmt;
use std::str::FromStr;

/// A protocol that upgrades a plain connection to TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartTls {
    /// RFC 3207.
    Smtp,
    /// RFC 9051 §6.2.1.
    Imap,
    /// RFC 2595 §4.
    Pop3,
    /// RFC 4217 §4.
    Ftp,
    /// RFC 4511 §4.14.
    Ldap,
    /// PostgreSQL's `SSLRequest`.
    Postgresql,
}

impl StartTls {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Smtp, Self::Imap, Self::Pop3, Self::Ftp, Self::Ldap, Self::Postgresql];

    /// The word of the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Smtp => "smtp",
            Self::Imap => "imap",
            Self::Pop3 => "pop3",
            Self::Ftp => "ftp",
            Self::Ldap => "ldap",
            Self::Postgresql => "postgresql",
        }
    }
}

impl fmt::Display for StartTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text names no protocol that we can upgrade.
#[derive(Debug, thiserror::Error)]
#[error("not a protocol with STARTTLS: smtp, imap, pop3, ftp, ldap or postgresql")]
pub struct StartTlsError;

impl FromStr for StartTls {
    type Err = StartTlsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|it| it.as_str() == text).ok_or(StartTlsError)
    }
}
