//! What the configuration says of alerts.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use crate::model::{CertificateName, Health, Secret, Share};

/// Who is told of trouble, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertSettings {
    /// The share of life left under which a certificate is worth a warning.
    pub warning: Share,
    /// The share of life left under which it is critical.
    pub critical: Share,
    /// For which share of its life a renewal must have failed before anyone is told.
    pub failing_for: Share,
    /// A URL that is fetched after every whole pass, for a dead man's switch to watch.
    pub heartbeat_url: Option<Secret>,
    /// Who is told.
    pub receivers: Vec<ReceiverSettings>,
    /// All certificates that the configuration names, refused entries too: what is not known of one
    /// of them is not over.
    pub wanted: BTreeSet<CertificateName>,
    /// Whether a part of the configuration was refused: it may name more certificates, of which
    /// nobody knows how they stand, and more receivers.
    pub is_partial: bool,
    /// The files in which the entry of a receiver was refused.
    pub refused_in: BTreeSet<PathBuf>,
}

impl Default for AlertSettings {
    fn default() -> Self {
        Self {
            warning: Share::new(1, 4),
            critical: Share::new(1, 8),
            failing_for: Share::new(1, 12),
            heartbeat_url: None,
            receivers: Vec::new(),
            wanted: BTreeSet::new(),
            is_partial: false,
            refused_in: BTreeSet::new(),
        }
    }
}

/// One receiver of alerts: one `[[alert]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiverSettings {
    /// How messages call it: its `name`, or its type and place, such as `webhook-1`.
    pub name: String,
    /// How it is reached.
    pub channel: Channel,
    /// What is too little for it.
    pub min_severity: Health,
    /// Whether it also hears of every renewal that went well.
    pub tell_renewed: bool,
    /// The file of the configuration that it stands in.
    pub source: PathBuf,
}

/// How a receiver is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Channel {
    /// A POST as Standard Webhooks says.
    Webhook {
        /// Where to. A secret, since many services put the key into the URL.
        url: Secret,
        /// The key that signs, as Standard Webhooks writes it: `whsec_` and Base64, or Base64
        /// alone. What is neither signs by its bytes.
        secret: Option<Secret>,
    },
    /// A program that gets the message on its standard input.
    Command {
        /// The program and its arguments.
        arguments: Vec<String>,
        /// When it is killed.
        timeout: Duration,
    },
    /// The API of Prometheus' Alertmanager, version 2.
    Alertmanager {
        /// Its base URL; `/api/v2/alerts` is added.
        url: Secret,
    },
}

impl Channel {
    /// For how long one message may be under way, with `exchange` for an answer over the network.
    pub(super) const fn longest(&self, exchange: Duration) -> Duration {
        match self {
            Self::Command { timeout, .. } => *timeout,
            Self::Webhook { .. } | Self::Alertmanager { .. } => exchange,
        }
    }
}
